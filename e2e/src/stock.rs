//! Stock programs in the namespaces of a lab: a DHCP server that is an IPv6 router, DHCP clients, iperf3 and mDNS.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context, Result, bail, ensure};

use crate::{Done, Lab, run};

/// How long any of them may run, in seconds.
const TIME: u32 = 60;

/// A program that serves until this value is dropped.
pub struct Service(Child);

impl Service {
    /// Starts one in a namespace of the lab.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(lab: &Lab, namespace: &str, words: &[&str]) -> Result<Self> {
        Self::start_for(lab, namespace, TIME, words)
    }

    /// The same for `seconds` at the most.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_for(lab: &Lab, namespace: &str, seconds: u32, words: &[&str]) -> Result<Self> {
        Ok(Self(lab.spawn(namespace, seconds, words)?))
    }

    /// Sends a signal, such as `STOP`, to it and all that it has started.
    ///
    /// # Errors
    /// When there is nobody.
    pub fn signal(&self, signal: &str) -> Result<()> {
        // It is `timeout`, which leads a group of processes.
        let group = format!("-{}", self.0.id());
        run(5, &["kill", &format!("-{signal}"), "--", &group])?.ok().map(drop)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It is `timeout`, which passes the signal on.
        let _ = run(5, &["kill", "-TERM", &self.0.id().to_string()]);
        let _ = self.signal("CONT");
        let _ = self.0.wait();
    }
}

/// Starts dnsmasq on the interface `red` of a node, and waits until it serves: DHCP for the addresses 50 to 99 of `v4`, such
/// as `10.1.0`, and router advertisements for the prefix `v6`, such as `fd00:1::`.
///
/// # Errors
/// When it does not come to serve.
pub fn dnsmasq(lab: &Lab, node: &str, v4: &str, v6: &str, options: &[&str]) -> Result<Service> {
    let log = lab.file().with_file_name(format!("{node}-dnsmasq.log"));
    let (log, leases) = (
        format!("--log-facility={}", log.display()),
        [format!("--dhcp-range={v4}.50,{v4}.99,1h"), format!("--dhcp-range={v6},ra-only")],
    );
    let words = [
        &["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping", "--leasefile-ro"][..],
        &["--interface=red", "--dhcp-authoritative", "--log-dhcp", "--enable-ra", &log],
        &[&*leases[0], &*leases[1]],
        options,
    ];
    let server = Service::start(lab, node, &words.concat())?;
    lab.wait_for("dnsmasq to serve", || {
        Ok(lab.exec(node, 5, &["ss", "-Huln", "sport = :67"])?.ok()?.contains(":67"))
    })?;
    Ok(server)
}

/// Has udhcpc ask for an address on an interface, twice at the most, with a probe of what is offered. Gives the address that
/// the interface has then.
///
/// # Errors
/// When it cannot be started, or says something else than what it was given.
pub fn lease(lab: &Lab, namespace: &str, interface: &str) -> Result<Option<IpAddr>> {
    // Debian's script of udhcpc writes the name servers there; this machine's are to stay.
    let resolver = lab.file().with_file_name(format!("{namespace}-resolv.conf"));
    fs::write(&resolver, "")?;
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec udhcpc -f -q -n -t 2 -T 1 -a200 -i \"$1\"";
    let words = ["unshare", "--mount", "sh", "-c", script, &resolver.to_string_lossy(), interface];
    let Done { code, out, err } = lab.exec(namespace, 10, &words)?;
    let said = out + &err;
    if code == Some(1) && said.contains("no lease") {
        return Ok(None);
    }
    let given = said.split_once("lease of ").and_then(|(_, rest)| rest.split_once(" obtained"));
    let (address, _) = given.with_context(|| format!("udhcpc ended with {code:?}: {said}"))?;
    let shown = lab.exec(namespace, 5, &["ip", "-4", "addr", "show", "dev", interface])?.ok()?;
    ensure!(shown.contains(&format!("inet {address}/")), "udhcpc got {address}, the interface has {shown}");
    Ok(Some(address.parse()?))
}

/// Waits until the interface has made itself an address of the prefix, such as `fd00:1::`, and has proven that nobody else has
/// it.
///
/// # Errors
/// When it does not.
pub fn autoconfigured(lab: &Lab, namespace: &str, interface: &str, prefix: &str) -> Result<IpAddr> {
    let own = || -> Result<Option<IpAddr>> {
        let words = ["ip", "-6", "-o", "addr", "show", "dev", interface, "scope", "global", "-tentative"];
        let shown = lab.exec(namespace, 5, &words)?.ok()?;
        let own = shown.split_whitespace().find(|word| word.starts_with(prefix.trim_end_matches(':')));
        Ok(own.and_then(|own| own.split('/').next()?.parse().ok()))
    };
    lab.wait_for(&format!("{namespace} to have an address of {prefix}"), || Ok(own()?.is_some()))?;
    own()?.context("it was there a moment ago")
}

/// True when three pings in a row are answered, or false when none is.
///
/// # Errors
/// When some are.
pub fn is_answered(lab: &Lab, from: &str, to: &str) -> Result<bool> {
    let done = lab.exec(from, 10, &["ping", "-q", "-c", "3", "-i", "0.05", "-W", "1", to])?;
    match &done.out {
        out if out.contains(" 3 received") => Ok(true),
        out if out.contains(" 0 received") => Ok(false),
        out => bail!("{from} to {to}: {out} {}", done.err),
    }
}

/// Has iperf3 send 16 MiB by TCP. Its receiver counts until the sender says that it is done, so the last of it may be missing.
///
/// # Errors
/// When one of its ends fails, or hardly anything arrives.
pub fn tcp(lab: &Lab, from: &str, to: &str, address: &str) -> Result<()> {
    let mut server = lab.spawn(to, 20, &["iperf3", "-s", "-1"])?;
    lab.wait_for("iperf3 to listen", || {
        Ok(lab.exec(to, 5, &["ss", "-Htln", "sport = :5201"])?.ok()?.contains("5201"))
    })?;
    let report = lab.exec(from, 20, &["iperf3", "-c", address, "-n", "16M", "-J"])?.ok()?;
    server.wait()?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let octets = report["end"]["sum_received"]["bytes"].as_f64();
    ensure!(octets > Some(1e6), "{octets:?} octets arrived at {address}: {report}");
    Ok(())
}

/// Makes the interface `red` of a node a port of a kernel bridge, `br0`.
///
/// # Errors
/// When `ip` fails.
pub fn bridge(lab: &Lab, node: &str) -> Result<()> {
    for words in ["add br0 type bridge", "set red master br0", "set br0 up"] {
        ip_link(lab, node, words)?;
    }
    Ok(())
}

/// A container behind a node: a namespace of its own, joined to the node's bridge by an interface `eth0` with a MAC of its own.
pub struct Container(String);

impl Container {
    /// Makes one.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn start(lab: &Lab, node: &str, name: &str) -> Result<Self> {
        let container = Self(lab.namespace(name));
        run(5, &["ip", "netns", "add", &container.0])?.ok()?;
        ip_link(lab, node, &format!("add {name} type veth peer name eth0 netns {}", container.0))?;
        ip_link(lab, node, &format!("set {name} master br0 up"))?;
        for interface in ["lo", "eth0"] {
            ip_link(lab, name, &format!("set {interface} up"))?;
        }
        Ok(container)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = run(5, &["ip", "netns", "del", &self.0]);
    }
}

fn ip_link(lab: &Lab, namespace: &str, words: &str) -> Result<()> {
    let words: Vec<&str> = ["ip", "link"].into_iter().chain(words.split(' ')).collect();
    lab.exec(namespace, 5, &words)?.ok().map(drop)
}

/// avahi-daemon at a node, with a message bus of its own for avahi's clients.
pub struct Avahi {
    _bus: Service,
    _daemon: Service,
    address: String,
}

impl Avahi {
    /// Starts it on the interface `red` under a host name; `service` is the name and type of a service that it announces, with
    /// a port.
    ///
    /// # Errors
    /// When a file cannot be written or a program not be started.
    pub fn start(lab: &Lab, node: &str, service: Option<(&str, &str, u16)>) -> Result<Self> {
        let file = |name: &str| lab.file().with_file_name(format!("{node}-{name}"));
        let (config, services, bus) = (file("avahi.conf"), file("services"), file("bus"));
        let address = format!("unix:path={}", bus.display());
        fs::write(
            &config,
            format!("[server]\nhost-name={node}\nuse-ipv4=yes\nuse-ipv6=yes\nallow-interfaces=red\n"),
        )?;
        fs::create_dir(&services)?;
        if let Some((name, kind, port)) = service {
            let service = format!("<service><type>{kind}</type><port>{port}</port></service>");
            let text = format!("<service-group><name>{name}</name>{service}</service-group>");
            fs::write(services.join("service.service"), text)?;
        }
        let bus = ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--address", &address];
        let bus = Service::start(lab, node, &bus)?;
        lab.wait_for("the bus", || Ok(file("bus").exists()))?;
        // Each has the files of the whole host to itself: those that say which services there are, and that it runs.
        let script = "mount --bind \"$0\" /etc/avahi/services && mount -t tmpfs none /run && \
                      exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f \"$1\"";
        let (variable, paths) = (variable(&address), [services, config].map(text));
        let words = ["env", &variable, "unshare", "--mount", "sh", "-c", script, &paths[0], &paths[1]];
        Ok(Self { _bus: bus, _daemon: Service::start(lab, node, &words)?, address })
    }

    /// The services of a type that have been found, a line each: interface, family, name, host, address and port among them.
    ///
    /// # Errors
    /// When avahi-browse cannot be started.
    pub fn browse(&self, lab: &Lab, node: &str, kind: &str) -> Result<Vec<String>> {
        let words = ["env", &variable(&self.address), "avahi-browse", "-p", "-t", "-r", kind];
        let done = lab.exec(node, 10, &words)?;
        Ok(done.out.lines().filter(|line| line.starts_with('=')).map(str::to_owned).collect())
    }
}

/// Where programs look for the bus of the system.
fn variable(address: &str) -> String {
    format!("DBUS_SYSTEM_BUS_ADDRESS={address}")
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
