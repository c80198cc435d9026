//! Tables, and what one transaction has changed but not yet committed.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::sql::{ColumnDef, Select};
use super::value::Value;

#[derive(Clone, Debug)]
pub struct Table {
    pub oid: i32,
    pub columns: Vec<ColumnDef>,
    pub rows: Vec<(u64, Vec<Value>)>,
    /// A view's definition; it has no rows of its own.
    pub view: Option<Select>,
}

pub type Tables = BTreeMap<String, Rc<Table>>;

#[derive(Clone, Debug)]
pub enum Change {
    Create(Rc<Table>),
    Drop,
    Insert(u64, Vec<Value>),
    Update(u64, Vec<Value>),
    Delete(u64),
    Truncate,
}

/// One change of one table.
#[derive(Clone, Debug)]
pub struct Op {
    pub temporary: bool,
    pub table: String,
    pub change: Change,
}

impl Op {
    /// Carries the change out on `tables`.
    pub fn apply(&self, tables: &mut Tables) {
        let Some(table) = tables.get_mut(&self.table) else {
            if let Change::Create(table) = &self.change {
                tables.insert(self.table.clone(), table.clone());
            }
            return;
        };
        match &self.change {
            Change::Create(_) => {}
            Change::Drop => {
                tables.remove(&self.table);
            }
            Change::Insert(id, row) => Rc::make_mut(table).rows.push((*id, row.clone())),
            Change::Update(id, row) => {
                let rows = &mut Rc::make_mut(table).rows;
                if let Some(at) = rows.iter().position(|(found, _)| found == id) {
                    rows.remove(at);
                    rows.push((*id, row.clone()));
                }
            }
            Change::Delete(id) => Rc::make_mut(table).rows.retain(|(found, _)| found != id),
            Change::Truncate => Rc::make_mut(table).rows.clear(),
        }
    }
}

/// The table `name` as a transaction with `ops` sees it.
pub fn seen(base: &Tables, ops: &[Op], temporary: bool, name: &str) -> Option<Rc<Table>> {
    let mut one = Tables::new();
    if let Some(table) = base.get(name) {
        one.insert(name.to_string(), table.clone());
    }
    for op in ops.iter().filter(|op| op.temporary == temporary && op.table == name) {
        op.apply(&mut one);
    }
    one.remove(name)
}
