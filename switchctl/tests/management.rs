//! The program against a management socket that answers what a control node would.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A request as the server read it: its first line and its body.
type Request = (String, String);

/// Listens on `socket` before it returns, answers one request with `status` and `body`, and gives the request.
fn answer_once(socket: &Path, status: &'static str, body: &'static str) -> Receiver<Request> {
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    // Bound under a short name and moved: an address holds 107 octets of path.
    let short = tempfile::tempdir_in("/tmp").unwrap();
    let listener = UnixListener::bind(short.path().join("s")).unwrap();
    std::fs::rename(short.path().join("s"), socket).unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut request_body = vec![0; length];
        reader.read_exact(&mut request_body).unwrap();
        sender.send((first.trim().to_owned(), String::from_utf8(request_body).unwrap())).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    });
    receiver
}

const PLATFORM: &str = r#"
[platform]
name = "t"
[[fabric]]
name = "a"
[[control-node]]
name = "cn-a"
serial = 1
legs = { a = "unix:run/a.sock" }
"#;

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.toml"), PLATFORM).unwrap();
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("p.toml")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/cn-a.sock")
    }

    fn switchctl(&self, arguments: &[&str]) -> Output {
        run(&[&["-f", self.file().to_str().unwrap()], arguments].concat())
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchctl")).args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

#[test]
fn status_is_asked_for_and_shown() {
    let site = Site::new();
    let body = r#"{"name":"cn-a","epoch":2,"uptime_s":61,"nodes_attached":3,"nodes_total":4,"lans":2,"config_differs":true}"#;
    let requests = answer_once(&site.socket(), "200 OK", body);
    let output = site.switchctl(&["status"]);
    assert_eq!(requests.recv().unwrap().0, "GET /v1/status HTTP/1.1");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("cn-a, up 1 min 1 s") && shown.contains("3 of 4 attached"), "{shown}");
    assert!(shown.contains("has changed since it was loaded"), "{shown}");
}

#[test]
fn json_is_what_the_control_node_said_also_what_is_not_known_here() {
    let site = Site::new();
    let _requests = answer_once(
        &site.socket(),
        "200 OK",
        r#"[{"where":"cn-a","reason":"expired","frames":7,"later":1}]"#,
    );
    let output = site.switchctl(&["drops", "--json"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("\"later\": 1") && shown.contains("\"where\": \"cn-a\""), "{shown}");
}

#[test]
fn every_list_has_its_own_request_and_a_table() {
    let lists = [
        ("nodes", r#"[{"name":"web1","number":1,"attached":true,"interfaces":[]}]"#, "web1"),
        (
            "lans",
            r#"[{"name":"red","id":10,"mtu":1500,"members":[{"node":"web1","vif":1,"mac":"m"}]}]"#,
            "red",
        ),
        (
            "rvis",
            r#"[{"rvi":7,"lan":"red","a":{"node":"web1"},"b":{"node":"web2"},"state":"up","legs":[]}]"#,
            "web2",
        ),
        ("bindings", r#"[{"address":"10.1.0.1","mac":"m","node":"web1","lan":"red","vif":1}]"#, "10.1.0.1"),
        (
            "groups",
            r#"[{"lan":"red","group":"239.1.1.1","members":[{"node":"web2","source":"report"}]}]"#,
            "web2",
        ),
        ("drops", r#"[{"where":"web1/red","reason":"expired","frames":7}]"#, "expired"),
        ("counters", r#"[{"name":"node.web1.vif.1.tx.frames","value":9}]"#, "node.web1.vif.1.tx.frames"),
    ];
    for (name, body, word) in lists {
        let site = Site::new();
        let requests = answer_once(&site.socket(), "200 OK", body);
        let output = site.switchctl(&[name]);
        assert_eq!(requests.recv().unwrap().0, format!("GET /v1/{name} HTTP/1.1"));
        assert!(text(&output.stdout).contains(word), "{name}: {}", text(&output.stderr));
    }
}

#[test]
fn a_drill_names_both_nodes_and_the_fabric() {
    let site = Site::new();
    let requests = answer_once(&site.socket(), "200 OK", r#"{"rvis":1}"#);
    let output = site.switchctl(&["rvi", "cut", "web1", "web2", "--fabric", "a"]);
    let (first, body) = requests.recv().unwrap();
    assert_eq!(first, "POST /v1/rvi/cut HTTP/1.1");
    assert_eq!(body, r#"{"a":"web1","b":"web2","fabric":"a"}"#);
    assert_eq!(text(&output.stdout), "cut web1 and web2 on fabric a: 1 direct RVI\n");
}

#[test]
fn a_fault_names_its_nodes_legs_and_direction() {
    let site = Site::new();
    let requests = answer_once(&site.socket(), "200 OK", r#"{"nodes":1}"#);
    let output =
        site.switchctl(&["fault", "web1", "--fabric", "a", "--direction", "out", "loss=5%,delay=2ms"]);
    let (first, body) = requests.recv().unwrap();
    assert_eq!(first, "POST /v1/fault HTTP/1.1");
    assert_eq!(body, r#"{"node":"web1","fabric":"a","direction":"out","spec":"loss=5%,delay=2ms"}"#);
    assert_eq!(text(&output.stdout), "1 node, packets that go on fabric a: loss=5%,delay=2ms\n");
    let site = Site::new();
    let requests = answer_once(&site.socket(), "200 OK", r#"{"nodes":3}"#);
    let output = site.switchctl(&["fault", "all", "off"]);
    assert_eq!(requests.recv().unwrap().1, r#"{"direction":"both","spec":"off"}"#);
    assert_eq!(text(&output.stdout), "3 nodes, all packets: no faults\n");
}

#[test]
fn a_refusal_is_printed_with_its_hint_and_ends_with_1() {
    let site = Site::new();
    let _requests = answer_once(
        &site.socket(),
        "404 Not Found",
        r#"{"error":"there is no node web9","hint":"there are web1"}"#,
    );
    let output = site.switchctl(&["rvi", "heal", "web1", "web9"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "error: there is no node web9\nhint: there are web1\n");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn nobody_listening_ends_with_1_and_says_what_to_start() {
    let site = Site::new();
    let output = site.switchctl(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.starts_with("error: no control node answers: ") && error.contains("hint: start one"),
        "{error}"
    );
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let site = Site::new();
    let _requests = answer_once(&site.socket(), "200 OK\r\ncontent-length: 10\r\nx-rest: ", "");
    let output = site.switchctl(&["status"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("gave no answer"), "{}", text(&output.stderr));
}

#[test]
fn a_socket_path_over_107_octets_works() {
    let site = Site::new();
    let socket = site.folder.path().join("d".repeat(120)).join("cn-a.sock");
    let _requests = answer_once(&socket, "200 OK", "[]");
    let output = run(&["--socket", socket.to_str().unwrap(), "bindings"]);
    assert_eq!(text(&output.stdout), "no bindings\n", "{}", text(&output.stderr));
}

#[test]
fn a_wrong_platform_file_or_command_line_ends_with_2() {
    let site = Site::new();
    std::fs::write(site.file(), PLATFORM.replace("serial = 1", "serial = 0")).unwrap();
    let output = site.switchctl(&["status"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("p.toml:8:10: `serial` is out of range") && error.contains("\nhint: "), "{error}");
    for arguments in [
        &["status"][..],
        &["statsu"],
        &["exec", "web1"],
        &["exec", "web1", "--", "true"],
        &["restart", "x"],
        &["fabric", "a", "up"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_control_node_is_chosen_by_name() {
    let site = Site::new();
    let output = site.switchctl(&["status", "--control-node", "cn-z"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("has no control node cn-z"));
}

/// A lab's supervisor that is asked these lines and gives these answers, in order.
fn supervisor(site: &Site, exchanges: &'static [(&'static str, &'static str)]) -> thread::JoinHandle<()> {
    let socket = site.folder.path().join("run/lab.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let lab = format!(r#"{{"name":"t","supervisor":{},"nodes":[],"control_nodes":[]}}"#, std::process::id());
    std::fs::write(site.folder.path().join("run/lab.json"), lab).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for (request, answer) in exchanges {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line.trim_end(), *request);
            reader.get_mut().write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    })
}

#[test]
fn a_lab_is_asked_to_restart_a_process_by_its_own_socket() {
    const REQUEST: &str = r#"{"request":"restart","name":"cn-a"}"#;
    let site = Site::new();
    let supervisor = supervisor(
        &site,
        &[
            (REQUEST, r#"{"answer":"started","pid":77}"#),
            (REQUEST, r#"{"answer":"refused","error":"cn-a runs already","hint":""}"#),
        ],
    );
    let output = site.switchctl(&["restart", "cn-a"]);
    assert_eq!(text(&output.stdout), "cn-a runs as process 77\n", "{}", text(&output.stderr));
    let output = site.switchctl(&["restart", "cn-a"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(1), "error: cn-a runs already\n")
    );
    supervisor.join().unwrap();
}

#[test]
fn a_lab_is_asked_to_take_a_fabric_down_and_up() {
    const DOWN: &str = r#"{"request":"fabric","name":"a","up":false}"#;
    const UP: &str = r#"{"request":"fabric","name":"a","up":true}"#;
    let site = Site::new();
    let supervisor = supervisor(
        &site,
        &[
            (DOWN, r#"{"answer":"fabric","name":"a","up":false,"processes":4}"#),
            (UP, r#"{"answer":"fabric","name":"a","up":true,"processes":4}"#),
            (UP, r#"{"answer":"refused","error":"fabric a has no lab network","hint":"give it one"}"#),
        ],
    );
    let output = site.switchctl(&["fabric", "a", "down"]);
    assert_eq!(
        text(&output.stdout),
        "fabric a is down, with 4 processes on it\n",
        "{}",
        text(&output.stderr)
    );
    let output = site.switchctl(&["fabric", "a", "up", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["up"], &answer["processes"]), (&true.into(), &4.into()));
    let output = site.switchctl(&["fabric", "a", "up"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "error: fabric a has no lab network\nhint: give it one\n");
    supervisor.join().unwrap();
}
