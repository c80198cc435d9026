//! The two sides of a measurement as a program.
//!
//!   stub serve [PORT]              a server that answers at once; prints its port
//!   stub ask ADDRESS KIND COUNT    asks that often for: simple, extended, prepared, rows=N, copy=N, pages=N,
//!                                  slowly=N (pages, read at some 6 MB/s), connect

mod peer;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use peer::{Client, Kind};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["serve"] => serve(0),
        ["serve", port] => port.parse().map_err(io::Error::other).and_then(serve),
        ["ask", address, kind, count] => ask(address, kind, count),
        _ => Err(io::Error::other("stub serve [PORT] | stub ask ADDRESS KIND COUNT")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stub: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(port: u16) -> io::Result<()> {
    println!("{}", peer::serve(port, || {})?.port());
    loop {
        std::thread::park();
    }
}

fn ask(address: &str, kind: &str, count: &str) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let count: u64 = count.parse().map_err(io::Error::other)?;
    let connect = || Client::connect(address, "app_trust", "app");
    if kind == "connect" {
        return (0..count).try_for_each(|_| connect()?.leave());
    }
    let mut client = connect()?;
    let slowly = kind.strip_prefix("slowly=");
    client.prepare(match slowly {
        Some(pages) => Kind::Pages(pages.parse().map_err(io::Error::other)?),
        None => kind_of(kind)?,
    })?;
    let mut bytes = 0;
    for _ in 0..count {
        bytes += match slowly {
            Some(_) => client.ask_and_read(1 << 16, Duration::from_millis(10))?,
            None => client.ask()?,
        };
    }
    println!("{bytes}");
    client.leave()
}

fn kind_of(text: &str) -> io::Result<Kind> {
    let (word, number) = text.split_once('=').unwrap_or((text, "0"));
    let number = number.parse().map_err(io::Error::other)?;
    match word {
        "simple" => Ok(Kind::Simple),
        "extended" => Ok(Kind::Extended),
        "prepared" => Ok(Kind::Prepared),
        "rows" => Ok(Kind::Rows(number)),
        "copy" => Ok(Kind::Copy(number)),
        "pages" => Ok(Kind::Pages(number)),
        _ => Err(io::Error::other(format!("no such kind: {text}"))),
    }
}
