//! Everything a worker has a socket for, by token. A token carries the generation of its place: a late event for what
//! was there before finds nothing.

pub struct Table<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    len: usize,
}

struct Place<T> {
    generation: u32,
    entry: Option<T>,
    /// In the worker's queue of things to serve.
    queued: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { places: Vec::new(), free: Vec::new(), len: 0 }
    }
}

fn split(token: u64) -> (u32, usize) {
    ((token >> 32) as u32, (token & 0xffff_ffff) as usize)
}

impl<T> Table<T> {
    pub fn insert(&mut self, entry: T) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            // Not twice as many at a time: with many clients the half that is not used would count.
            if self.places.len() == self.places.capacity() {
                self.places.reserve_exact(self.places.len() / 8 + 64);
            }
            self.places.push(Place { generation: 0, entry: None, queued: false });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[at as usize];
        place.entry = Some(entry);
        place.queued = false;
        self.len += 1;
        u64::from(place.generation) << 32 | u64::from(at)
    }

    pub fn get(&self, token: u64) -> Option<&T> {
        let (generation, at) = split(token);
        self.places.get(at).filter(|place| place.generation == generation)?.entry.as_ref()
    }

    pub fn get_mut(&mut self, token: u64) -> Option<&mut T> {
        self.place(token)?.entry.as_mut()
    }

    pub fn replace(&mut self, token: u64, entry: T) -> Option<T> {
        self.get_mut(token).map(|old| std::mem::replace(old, entry))
    }

    /// Frees the place: the token means nothing from here on.
    pub fn remove(&mut self, token: u64) -> Option<T> {
        let (_, at) = split(token);
        let place = self.place(token)?;
        let entry = place.entry.take()?;
        // 31 bits: with the index it must not become the waker's token.
        place.generation = (place.generation + 1) & 0x7fff_ffff;
        self.free.push(at as u32);
        self.len -= 1;
        Some(entry)
    }

    /// Marks as queued; false if it is already, or gone.
    pub fn enqueue(&mut self, token: u64) -> bool {
        self.place(token).is_some_and(|place| !std::mem::replace(&mut place.queued, true))
    }

    pub fn dequeue(&mut self, token: u64) {
        if let Some(place) = self.place(token) {
            place.queued = false;
        }
    }

    pub fn tokens(&self) -> Vec<u64> {
        let token = |(at, place): (usize, &Place<T>)| u64::from(place.generation) << 32 | at as u64;
        self.places.iter().enumerate().filter(|(_, place)| place.entry.is_some()).map(token).collect()
    }

    /// The token of what is at this index now.
    pub fn token_at(&self, index: u32) -> Option<u64> {
        let place = self.places.get(index as usize)?;
        place.entry.as_ref().map(|_| u64::from(place.generation) << 32 | u64::from(index))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&mut self, token: u64) -> Option<&mut Place<T>> {
        let (generation, at) = split(token);
        self.places.get_mut(at).filter(|place| place.generation == generation && place.entry.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_tokens_find_nothing() {
        let mut table = Table::default();
        let a = table.insert("a");
        let b = table.insert("b");
        assert_eq!(table.remove(a), Some("a"));
        let c = table.insert("c");
        assert_ne!(a, c);
        assert_eq!(a & 0xffff_ffff, c & 0xffff_ffff);
        assert_eq!((table.get(a), table.get(b), table.get(c)), (None, Some(&"b"), Some(&"c")));
        assert!(table.enqueue(c) && !table.enqueue(c) && !table.enqueue(a));
        table.dequeue(c);
        assert!(table.enqueue(c));
        assert_eq!(table.tokens(), [c, b]);
        assert_eq!(table.len(), 2);
    }
}
