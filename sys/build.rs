//! Finds libkqueue when the kqueue backend is built on Linux (`--cfg kodiak_kqueue`); otherwise
//! does nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBKQUEUE");
    let on_linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if on_linux && std::env::var_os("CARGO_CFG_KODIAK_KQUEUE").is_some() {
        // The folder that holds libkqueue.so, if it is not where the linker looks by itself.
        if let Ok(folder) = std::env::var("LIBKQUEUE") {
            println!("cargo::rustc-link-search=native={folder}");
        }
    }
}
