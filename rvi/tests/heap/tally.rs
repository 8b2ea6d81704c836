//! What each thread of a test has on the heap, counted at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Octets that this thread allocated and has not given back.
pub fn held() -> isize {
    HELD.get()
}

/// How often this thread has allocated.
#[allow(dead_code, reason = "not every test that counts octets counts these")]
pub fn allocations() -> usize {
    ALLOCATIONS.get()
}

/// The system's allocator, with a tally for each thread.
struct Tally;

fn note(octets: isize) {
    // A thread that ends may free memory after its tally is gone.
    let _ = HELD.try_with(|held| held.set(held.get() + octets));
    if octets > 0 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: every call goes to the system's allocator as it came; the tally does not allocate.
unsafe impl GlobalAlloc for Tally {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static TALLY: Tally = Tally;
