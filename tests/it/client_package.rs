//! The client is published without the rest of the repository, so it has the proto and the licence in copies of its
//! own. They are no symbolic links, since not everything that carries a source tree keeps those.

use std::fs;

use crate::support::python::root;

#[test]
fn what_the_client_copies_is_the_same_as_at_the_root() {
    for file in ["proto/tallyman/v1/tallyman.proto", "LICENSE"] {
        let [original, copy] = [root().join(file), root().join("client").join(file)];
        let is_same = fs::read(&original).unwrap() == fs::read(&copy).unwrap();
        assert!(is_same, "{file} was changed: cp {file} client/{file}");
    }
}
