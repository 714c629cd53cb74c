//! Lists the shipped actions, so that they are part of the program and one file is enough to install it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let library = here.join("../../runbooks");
    let mut code = String::new();
    list(&mut code, "ACTIONS", &library.join("actions"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("library.rs");
    fs::write(&out, code).expect("the build folder can be written");
}

/// A table of name and content of every `.yaml` file in `folder`, sorted by name.
fn list(code: &mut String, name: &str, folder: &Path) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    writeln!(code, "pub(crate) static {name}: &[(&str, &str)] = &[").expect("memory");
    for path in files {
        println!("cargo::rerun-if-changed={}", path.display());
        let path = path.canonicalize().expect("it was just listed");
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("library files have plain names");
        writeln!(code, "    ({stem:?}, include_str!({:?})),", path.display().to_string()).expect("memory");
    }
    code.push_str("];\n");
}
