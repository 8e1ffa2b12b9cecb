//! What the packages do when they come, change and go.

/// What the packages' scripts do: a service that runs goes on as the new version, and a package that goes takes its
/// services with it. Both send guests home first. A machine is made a node by `minka install`, not by this.
pub(crate) const SCRIPTS: &str = r#"
make_groups() { ! command -v systemd-sysusers >/dev/null || systemd-sysusers ${DPKG_ROOT:+--root="$DPKG_ROOT"} minka-xpu.conf || true; }
reload() { [ ! -d "${DPKG_ROOT:-}/run/systemd/system" ] || systemctl daemon-reload || true; }
go_on() { [ ! -d "${DPKG_ROOT:-}/run/systemd/system" ] || systemctl try-restart minkad.service minka-xpu.service || true; }
end() { [ ! -d "${DPKG_ROOT:-}/run/systemd/system" ] || systemctl disable --quiet --now minkad.service minka-xpu.service || true; }
"#;

/// What Debian's tool calls, by the name of the script. Keys and settings stay until the package is purged.
pub(crate) const DEBIAN: [(&str, &str); 3] = [
    (
        "postinst",
        r#"if [ "$1" = configure ]; then make_groups; reload; if [ -n "${2:-}" ]; then go_on; fi; fi"#,
    ),
    ("prerm", r#"if [ "$1" = remove ]; then end; fi"#),
    (
        "postrm",
        r#"reload
if [ "$1" = purge ]; then
    for kept in etc/minka var/lib/minka var/lib/private/minka-xpu var/lib/minka-xpu; do rm -rf "${DPKG_ROOT:-}/$kept"; done
fi"#,
    ),
];

/// The same with rpm, which tells how many versions are left.
pub(crate) const FEDORA: [(&str, &str); 3] = [
    ("post", "make_groups; reload"),
    ("preun", r#"if [ "$1" = 0 ]; then end; fi"#),
    ("postun", r#"reload; if [ "$1" != 0 ]; then go_on; fi"#),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// What a script has systemd do on a machine below `root`.
    fn done(root: &Path, what: &str, arguments: &[&str]) -> String {
        let (tool, log) = (root.join("bin/systemctl"), root.join("log"));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(&tool, format!("#!/bin/sh\necho \"$*\" >>'{}'\n", log.display())).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(&log);
        let path = format!("{}:/usr/bin:/bin", root.join("bin").display());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-ec", &format!("{SCRIPTS}{what}"), "script"]).args(arguments);
        let status = shell.env("PATH", path).env("DPKG_ROOT", root).status().unwrap();
        assert!(status.success(), "{what} {arguments:?}");
        fs::read_to_string(log).unwrap_or_default()
    }

    fn script(all: &[(&str, &'static str); 3], name: &str) -> &'static str {
        all.iter().find(|(other, _)| *other == name).unwrap().1
    }

    #[test]
    fn services_go_on_as_the_new_version_and_end_with_the_package() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("run/systemd/system")).unwrap();
        let (reload, both) = ("daemon-reload\n", "minkad.service minka-xpu.service\n");
        let end = format!("disable --quiet --now {both}");
        let go_on = format!("{reload}try-restart {both}");
        let debian = |name, arguments: &[&str]| done(root, script(&DEBIAN, name), arguments);
        assert_eq!(debian("postinst", &["configure"]), reload);
        assert_eq!(debian("postinst", &["configure", ""]), reload);
        assert_eq!(debian("postinst", &["configure", "0.1.0"]), go_on);
        assert_eq!(debian("prerm", &["upgrade", "0.2.0"]), "");
        assert_eq!(debian("prerm", &["remove"]), end);
        assert_eq!(debian("postrm", &["remove"]), reload);
        let fedora = |name, arguments: &[&str]| done(root, script(&FEDORA, name), arguments);
        assert_eq!(fedora("post", &["1"]), reload);
        assert_eq!((fedora("preun", &["1"]), fedora("postun", &["1"])), (String::new(), go_on));
        assert_eq!((fedora("preun", &["0"]), fedora("postun", &["0"])), (end, reload.to_owned()));
    }

    #[test]
    fn keys_stay_until_the_package_is_purged_and_nothing_else_goes() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for kept in ["etc/minka/keys", "etc/other", "var/lib/minka", "var/lib/other"] {
            fs::create_dir_all(root.join(kept)).unwrap();
        }
        // Without systemd there is nothing to be told.
        assert_eq!(done(root, script(&DEBIAN, "postrm"), &["remove"]), "");
        assert!(root.join("etc/minka/keys").exists());
        done(root, script(&DEBIAN, "postrm"), &["purge"]);
        let there = |path: &str| root.join(path).exists();
        assert!(
            !there("etc/minka") && !there("var/lib/minka") && there("etc/other") && there("var/lib/other")
        );
    }
}
