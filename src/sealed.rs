/// Keeps a trait to this crate: nobody else can name it, so nobody else can implement what needs it.
#[expect(unnameable_types, reason = "that is what seals")]
pub trait Sealed {}
