//! Compiles the C peers whose headers are here, and says so to the program.

use std::path::Path;

const FOLDERS: [&str; 3] = ["/usr/include", "/usr/local/include", "/opt/homebrew/include"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=csrc");
    for (name, header, library) in [("libuv", "uv.h", "uv"), ("libevent", "event2/event.h", "event_core")] {
        if !FOLDERS.iter().any(|folder| Path::new(folder).join(header).exists()) {
            println!("cargo:warning={name}: {header} is not installed, this peer is left out");
            continue;
        }
        cc::Build::new().file(format!("csrc/{name}_peer.c")).opt_level(3).compile(&format!("{name}_peer"));
        println!("cargo:rustc-link-lib={library}");
        println!("cargo:rustc-cfg={name}");
    }
}
