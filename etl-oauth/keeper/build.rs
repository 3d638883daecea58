//! Lists the files in `providers/`, so that a new one is a file and nothing else.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("providers");
    println!("cargo::rerun-if-changed=providers");
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    // In the order of the names, for the binary search.
    paths.sort_by_key(|path| path.file_stem().map(ToOwned::to_owned));
    let lines = paths.iter().map(|path| {
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a provider's file name is UTF-8")?;
        Ok(format!("({name:?}, include_str!({path:?})),\n"))
    });
    let lines: String = lines.collect::<Result<_, Box<dyn std::error::Error>>>()?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("providers.rs"), format!("&[\n{lines}]\n"))?;
    Ok(())
}
