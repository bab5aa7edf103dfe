//! Compiles the C programs for libuv and libevent if their headers are installed, and sets a cfg
//! for each.

use std::path::Path;

const FOLDERS: [&str; 3] = ["/usr/include", "/usr/local/include", "/opt/homebrew/include"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=csrc");
    let programs = [("libuv", "uv.h", "uv"), ("libevent", "event2/event.h", "event_core")];
    for (name, header, library) in programs {
        if !FOLDERS.iter().any(|folder| Path::new(folder).join(header).exists()) {
            println!("cargo:warning={name} is left out: {header} is not installed");
            continue;
        }
        cc::Build::new()
            .file(format!("csrc/{name}.c"))
            .opt_level(3)
            .compile(&format!("kodiak_bench_{name}"));
        println!("cargo:rustc-link-lib={library}");
        println!("cargo:rustc-cfg={name}");
    }
}
