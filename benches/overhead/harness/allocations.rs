//! A global allocator that counts for each thread how often it was asked.

#![expect(
    unsafe_code,
    reason = "a global allocator cannot be had without; it hands everything on to the system's"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

/// Allocations of this thread so far; one that grows counts again.
pub(super) fn count() -> u64 {
    COUNT.with(Cell::get)
}

/// Bytes that this thread has asked for so far.
pub(super) fn bytes() -> u64 {
    BYTES.with(Cell::get)
}

/// Bytes that this thread has asked for and not given back; below zero if others asked for them.
pub(super) fn held() -> i64 {
    HELD.with(Cell::get)
}

fn counted(bytes: usize) {
    COUNT.with(|count| count.set(count.get() + 1));
    BYTES.with(|total| total.set(total.get() + bytes as u64));
    HELD.with(|held| held.set(held.get() + bytes as i64));
}

fn returned(bytes: usize) {
    HELD.with(|held| held.set(held.get() - bytes as i64));
}

// SAFETY: every method hands its arguments on to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        returned(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        returned(layout.size());
        counted(size);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.realloc(block, layout, size) }
    }
}
