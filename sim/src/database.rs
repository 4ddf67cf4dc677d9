//! The database: the model that one suite holds to the same behaviour as Postgres, and what histories do to it: outages,
//! delays, and backups that are put back.

use roadstead_controller::store::model::Model;
use uuid::Uuid;

/// With the policy in force: its revision and the weight that it gives.
#[derive(Clone)]
pub struct Database {
    pub model: Model,
    pub policy: (u64, u32),
    incarnation: u64,
}

impl Database {
    /// `is_fenced`: epochs and tokens mean something. They do, but for one test.
    pub fn new(id: u128, is_fenced: bool) -> Self {
        let mut model = Model::with_world(Uuid::from_u128(id));
        model.unfenced = !is_fenced;
        Self { model, policy: (1, 100), incarnation: 1 }
    }

    /// Puts a backup back, as a person does it: the controllers are stopped, the world becomes a new incarnation.
    pub fn restore(&mut self, backup: &Database) {
        let newest = self.incarnation + 1;
        *self = backup.clone();
        while self.incarnation < newest {
            self.model.adopt_world(None);
            self.incarnation += 1;
        }
    }
}
