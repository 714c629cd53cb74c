//! Two bridges for each lab. The front one has an address of this machine; the back one has none, and a route that
//! refuses its network, so that hosts behind a jump host cannot be reached otherwise and no packet for them leaves.
//!
//! Addresses are from the block that is set aside for tests of network devices (198.18.0.0/15).

use super::Error;
use super::command::{must, run};

pub(super) struct Network {
    number: u8,
}

impl Network {
    pub(super) fn make(number: u8) -> Result<Self, Error> {
        // From here on dropping it removes what was made.
        let network = Self { number };
        for bridge in [front(number), back(number)] {
            must("ip", ["link", "add", &bridge, "type", "bridge"])?;
            must("ip", ["link", "set", &bridge, "up"])?;
        }
        must("ip", ["address", "add", &format!("198.18.{number}.1/24"), "dev", &front(number)])?;
        must("ip", ["route", "add", "unreachable", &format!("198.19.{number}.0/24")])?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(self.number);
    }
}

/// Removes all that carries the number. What is not there is no error.
pub(super) fn remove(number: u8) {
    let links = must("ip", ["-o", "link", "show"]).unwrap_or_default();
    let own = [format!("rbl{number}f"), format!("rbl{number}b"), format!("rbl{number}-")];
    for line in links.lines() {
        let Some(name) = line.split(": ").nth(1) else { continue };
        let name = name.split('@').next().unwrap_or(name);
        if name == own[0] || name == own[1] || name.starts_with(&own[2]) {
            let _ = run("ip", ["link", "delete", name]);
        }
    }
    let _ = run("ip", ["route", "delete", "unreachable", &format!("198.19.{number}.0/24")]);
}

pub(super) fn front(number: u8) -> String {
    format!("rbl{number}f")
}

pub(super) fn back(number: u8) -> String {
    format!("rbl{number}b")
}

/// The name, on this machine, of the cable of host number `place` to the front or the back bridge.
pub(super) fn cable(number: u8, place: usize, is_back: bool) -> String {
    format!("rbl{number}-{place}{}", if is_back { "b" } else { "f" })
}

/// Plugs a host in. `pid` is any process in its network namespace. Gives its address.
pub(super) fn plug(number: u8, place: usize, is_back: bool, pid: u32) -> Result<String, Error> {
    let cable = cable(number, place, is_back);
    let (bridge, network, device) = if is_back {
        (back(number), format!("198.19.{number}"), "back0")
    } else {
        (front(number), format!("198.18.{number}"), "front0")
    };
    let address = format!("{network}.{}", place + 10);
    let pid = pid.to_string();
    must("ip", ["link", "add", &cable, "type", "veth", "peer", "name", device, "netns", &pid])?;
    must("ip", ["link", "set", &cable, "master", &bridge, "up"])?;
    let inside = |args: &[&str]| must("nsenter", [&["-t", pid.as_str(), "-n", "ip"], args].concat());
    inside(&["address", "add", &format!("{address}/24"), "dev", device])?;
    inside(&["link", "set", device, "up"])?;
    Ok(address)
}
