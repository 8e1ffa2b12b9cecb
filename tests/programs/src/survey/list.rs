//! The programs of the survey. Scripts and sources are in `tests/programs`; what is read is data of this machine.

use std::path::{Path, PathBuf};

use super::service::Service;
use super::{Entry, INTERVAL, Part, Subject, View};
use crate::data;
use crate::program::Program;

/// Everything counts.
fn all(output: &[u8]) -> Vec<u8> {
    output.to_vec()
}

/// Of Python's own tests: which of them failed, and how it ended.
fn verdict(output: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(output);
    let counts =
        |line: &&str| ["FAIL", "ERROR", "Tests result:", "Result:"].iter().any(|s| line.starts_with(s));
    text.lines().filter(counts).collect::<Vec<_>>().join("\n").into_bytes()
}

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn line(name: &'static str, part: Part, version: &'static str, line: &str) -> Entry {
    let line = line.replace("SOURCES", &sources().display().to_string());
    let program = Program::shell(&line).every(INTERVAL);
    Entry { name, part, version, subject: Subject::Program(Box::new(program)), view: all }
}

fn reading(entry: Entry, file: PathBuf) -> Entry {
    match entry.subject {
        Subject::Program(program) => {
            Entry { subject: Subject::Program(Box::new(program.reads(file))), ..entry }
        }
        Subject::Service(_) => entry,
    }
}

fn python_test(name: &'static str, line_of_shell: &str) -> Entry {
    let view: View = verdict;
    Entry { view, ..line(name, Part::Families, PYTHON, line_of_shell) }
}

const PYTHON: &str = "/usr/bin/python3 --version && /usr/bin/python3 -c 'import test.test_socket'";

fn threads(mixed: &Path) -> Vec<Entry> {
    let threads = |name, version, text: &str| line(name, Part::Threads, version, text);
    vec![
        reading(
            threads("xz -T4", "xz --version", "exec xz -T4 --block-size=2MiB -2 --stdout | sha256sum"),
            mixed.to_owned(),
        ),
        reading(threads("zstd -T4", "zstd --version", "zstd -T4 -12 --stdout | sha256sum"), mixed.to_owned()),
        threads(
            "OpenMP (gcc)",
            "gcc --version | head -n 1",
            "gcc -O2 -fopenmp SOURCES/openmp/openmp.c -o openmp && OMP_NUM_THREADS=4 ./openmp 700",
        ),
        threads(
            "Go",
            "go version",
            "export HOME=$PWD; go build -o threads SOURCES/scripts/threads.go && ./threads",
        ),
        threads("node, worker threads", "node --version", "exec node SOURCES/scripts/workers.js"),
        threads("OpenJDK", "java -version", "exec java -XX:-UsePerfData SOURCES/scripts/Threads.java"),
        threads(
            "OpenJDK with its shared performance data",
            "java -version",
            "exec java SOURCES/scripts/Threads.java",
        ),
        threads(
            "povray +WT4",
            "povray --version 2>&1",
            // Pixels without the header, which has the date.
            "povray +WT4 SOURCES/scripts/scene.pov +W900 +H600 +A0.1 -J +FP +O- -D | tail -c 1620000 | sha256sum",
        ),
        threads(
            "python3, threads",
            "/usr/bin/python3 --version",
            "exec /usr/bin/python3 SOURCES/scripts/threads.py 200",
        ),
    ]
}

fn families() -> Vec<Entry> {
    let family = |name, version, text: &str| line(name, Part::Families, version, text);
    vec![
        family(
            "perl, Parallel::ForkManager",
            "perl -MParallel::ForkManager -e 'printf \"%vd\\n\", $^V'",
            "exec perl SOURCES/scripts/forks.pl",
        ),
        family(
            "make -j4 (Lua 5.4, gcc)",
            "make --version && test -d \"${MINKA_LUA:?}\"",
            "cp -r \"$MINKA_LUA\" lua && make -j4 -C lua/src generic >make.log 2>&1 && sha256sum lua/src/*.o lua/src/lua && \
             lua/src/lua -e 'print(_VERSION, 6 * 7)'",
        ),
        python_test("python3 -m test test_threading", "exec /usr/bin/python3 -m test test_threading"),
        python_test("python3 -m test test_subprocess", "exec /usr/bin/python3 -m test test_subprocess"),
        python_test(
            "python3 -m test test_socket, without VSOCK",
            "exec /usr/bin/python3 -m test test_socket -i '*VSOCK*'",
        ),
        python_test("python3 -m test test_signal", "exec /usr/bin/python3 -m test test_signal"),
        python_test("python3 -m test test_asyncio", "exec /usr/bin/python3 -m test test_asyncio"),
        python_test("python3 -m test test_mmap", "exec /usr/bin/python3 -m test test_mmap"),
        python_test(
            "python3 -m test test_multiprocessing_fork",
            "exec /usr/bin/python3 -m test test_multiprocessing_fork",
        ),
        family("tmux with nano", "nano --version && tmux -V", "exec sh SOURCES/scripts/editor.sh"),
        family(
            "MPICH, 4 ranks",
            "mpichversion",
            "mpicc -O2 SOURCES/scripts/ranks.c -o ranks && mpirun -n 4 ./ranks",
        ),
        family(
            "MPICH, 4 ranks, without System V",
            "mpichversion",
            "mpicc -O2 SOURCES/scripts/ranks.c -o ranks && UCX_TLS=posix,cma,self mpirun -n 4 ./ranks",
        ),
    ]
}

fn servers() -> Vec<Entry> {
    let server = |name, version, service| Entry {
        name,
        part: Part::Servers,
        version,
        subject: Subject::Service(service),
        view: all,
    };
    vec![
        server(
            "redis-server under redis-benchmark",
            "redis-benchmark --version && redis-server --version",
            Service {
                prepare: "true",
                server: "exec redis-server --save '' --port 6379",
                ready: "redis-cli ping",
                client: "redis-benchmark -q -n 20000 -c 20 -t set,get,incr,lpush,zadd >load && redis-cli dbsize && \
                         redis-cli get counter:__rand_int__ && redis-cli llen mylist",
            },
        ),
        server(
            "nginx under wrk, one process",
            "command -v wrk >/dev/null && nginx -v",
            Service {
                prepare: NGINX_ONE,
                server: "exec nginx -p $PWD -c $PWD/nginx.conf",
                ready: "curl -sf http://127.0.0.1:8080/small",
                client: NGINX_LOAD,
            },
        ),
        server(
            "nginx under wrk, master and workers",
            "command -v wrk >/dev/null && nginx -v",
            Service {
                prepare: NGINX,
                server: "exec nginx -p $PWD -c $PWD/nginx.conf",
                ready: "curl -sf http://127.0.0.1:8080/small",
                client: NGINX_LOAD,
            },
        ),
        server(
            "Apache httpd under ab, prefork",
            "command -v ab >/dev/null && apache2 -v",
            Service {
                prepare: APACHE_PREFORK,
                server: "exec apache2 -DFOREGROUND -f $PWD/httpd.conf",
                ready: "curl -sf http://127.0.0.1:8081/small",
                client: APACHE_LOAD,
            },
        ),
        server(
            "Apache httpd under ab, event",
            "command -v ab >/dev/null && apache2 -v",
            Service {
                prepare: APACHE_EVENT,
                server: "exec apache2 -DFOREGROUND -f $PWD/httpd.conf",
                ready: "curl -sf http://127.0.0.1:8081/small",
                client: APACHE_LOAD,
            },
        ),
        server(
            "PostgreSQL under pgbench",
            "command -v pgbench >/dev/null && $(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/postgres --version",
            POSTGRES,
        ),
        server("MariaDB under a load with checksums", "mariadbd --version", MARIADB),
        server(
            "MariaDB under the same load, without io_uring",
            "mariadbd --version",
            Service { server: MARIADB_WITHOUT_URING, ..MARIADB },
        ),
    ]
}

const NGINX_LOAD: &str = "wrk -t1 -c8 -d5 http://127.0.0.1:8080/small >load && grep -c 'requests in' load && \
     ! grep -E 'Non-2xx|Socket errors' load && curl -s http://127.0.0.1:8080/large | cmp - pages/large && echo same";
const NGINX: &str = "mkdir pages && head -c 100000 /usr/bin/perl >pages/small && cat /usr/bin/perl >pages/large && \
     chmod -R a+rX . && echo \"worker_processes 2; error_log stderr; pid $PWD/pid; daemon off; \
     events { worker_connections 256; } http { access_log off; server { listen 8080; root $PWD/pages; } }\" >nginx.conf";
const NGINX_ONE: &str = "mkdir pages && head -c 100000 /usr/bin/perl >pages/small && cat /usr/bin/perl >pages/large && \
     chmod -R a+rX . && echo \"master_process off; error_log stderr; pid $PWD/pid; daemon off; \
     events { worker_connections 256; } http { access_log off; server { listen 8080; root $PWD/pages; } }\" >nginx.conf";
const APACHE_LOAD: &str = "ab -q -n 8000 -c 4 http://127.0.0.1:8081/small >load && \
     grep -E 'Complete requests|Failed requests' load && \
     curl -s http://127.0.0.1:8081/large | cmp - pages/large && echo same";
const APACHE_PREFORK: &str = "mkdir pages && head -c 100000 /usr/bin/perl >pages/small && cat /usr/bin/perl >pages/large && \
     printf '%s\\n' 'ServerRoot /etc/apache2' 'LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so' \
     'LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so' 'Listen 8081' 'ServerName localhost' \
     \"PidFile $PWD/pid\" 'ErrorLog /dev/stderr' \"DocumentRoot $PWD/pages\" 'StartServers 2' 'MinSpareServers 2' \
     'MaxSpareServers 4' '<Directory />' 'Require all granted' '</Directory>' >httpd.conf";
const APACHE_EVENT: &str = "mkdir pages && head -c 100000 /usr/bin/perl >pages/small && cat /usr/bin/perl >pages/large && \
     printf '%s\\n' 'ServerRoot /etc/apache2' 'LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so' \
     'LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so' 'Listen 8081' 'ServerName localhost' \
     \"PidFile $PWD/pid\" 'ErrorLog /dev/stderr' \"DocumentRoot $PWD/pages\" 'StartServers 2' 'ThreadsPerChild 8' \
     'MaxRequestWorkers 16' '<Directory />' 'Require all granted' '</Directory>' >httpd.conf";

/// It refuses to run as root, and so does the program that makes its data.
const POSTGRES: Service = Service {
    prepare: "mkdir data socket && chown postgres data socket && \
              cd / && setpriv --reuid=postgres --regid=postgres --clear-groups \
              $(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/initdb -D \"$OLDPWD/data\" -A trust -N",
    server: "exec setpriv --reuid=postgres --regid=postgres --clear-groups \
             $(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/postgres -D data -k /tmp -c listen_addresses=",
    ready: "psql -U postgres -h /tmp -c 'select 1' postgres",
    client: "{ pgbench -U postgres -h /tmp -i -q -s 2 postgres && \
             pgbench -U postgres -h /tmp -c 4 -j 1 -t 1000 -n postgres; } >load 2>&1 && \
             grep -E 'actually processed|failed' load && psql -U postgres -h /tmp -At postgres -c 'select \
             (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches), \
             (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history), \
             (select count(*) from pgbench_history)'",
};

const MARIADB_WITHOUT_URING: &str = "exec mariadbd --no-defaults --user=root --datadir=$PWD/data \
     --socket=/tmp/survey.sock --skip-networking --innodb-flush-log-at-trx-commit=2 --innodb-use-native-aio=0";

const MARIADB: Service = Service {
    prepare: "mkdir data && mariadb-install-db --no-defaults --user=root --datadir=$PWD/data --auth-root-authentication-method=normal",
    server: "exec mariadbd --no-defaults --user=root --datadir=$PWD/data --socket=/tmp/survey.sock --skip-networking \
             --innodb-flush-log-at-trx-commit=2",
    ready: "mariadb -S /tmp/survey.sock -e 'select 1'",
    client: "mariadb -S /tmp/survey.sock -e 'create database survey; create table survey.t \
             (id int primary key auto_increment, client int, value int, text varchar(64)) engine=innodb' && \
             for client in 1 2 3 4; do { for i in $(seq 1500); do \
             echo \"insert into t (client, value, text) values ($client, $i * $client, md5($i)); \
             update t set value = value + 1 where client = $client and value % 7 = 0;\"; done | \
             mariadb -S /tmp/survey.sock survey; } & done; wait; \
             mariadb -S /tmp/survey.sock -N survey -e 'select client, count(*), sum(value), \
             bit_xor(crc32(concat(client, value, text))) from t group by client order by client; check table t'",
};

fn plain(mixed: &Path, text: &Path) -> Vec<Entry> {
    let plain = |name, version, text: &str| line(name, Part::Plain, version, text);
    let read = |entry, file: &Path| reading(entry, file.to_owned());
    vec![
        read(plain("xz", "xz --version", "exec xz --threads=1 -2 --stdout"), mixed),
        read(plain("xz | xz -d | sha256sum", "xz --version", "xz --threads=1 -0 | xz -d | sha256sum"), mixed),
        read(plain("zstd", "zstd --version", "exec zstd --single-thread --no-asyncio -12 --stdout"), mixed),
        read(
            plain(
                "sha512sum",
                "sha512sum --version",
                "cat >file && for turn in 1 2 3 4 5 6 7 8 9 10 11 12; do cat file; done | sha512sum",
            ),
            mixed,
        ),
        plain("bc", "bc --version", "echo 'scale=2500; 4*a(1)' | bc --mathlib"),
        read(
            plain(
                "awk",
                "gawk --version || dpkg-query -W mawk | cut -f 2",
                "exec awk '{ for (i = 1; i <= NF; i++) count[$i]++ } \
                 END { for (word in count) { words++; total += count[word] } print NR, words, total }'",
            ),
            text,
        ),
        read(plain("sort", "sort --version", "exec sort --parallel=1 --buffer-size=24M"), text),
        read(
            plain(
                "tr, sort, uniq in a pipeline",
                "sort --version",
                "tr -cs A-Za-z '\\n' | tr A-Z a-z | sort --parallel=1 -S 24M | uniq -c | sort --parallel=1 -rn | head -n 50",
            ),
            text,
        ),
        plain(
            "sqlite3",
            "sqlite3 --version",
            "sed s/ROWS/60000/ SOURCES/scripts/database.sql | sqlite3 -batch words.db",
        ),
        read(
            plain(
                "perl",
                "perl -e 'printf \"%vd\\n\", $^V'",
                "export PERL_HASH_SEED=0; exec perl SOURCES/scripts/words.pl",
            ),
            text,
        ),
        plain("python3", "/usr/bin/python3 --version", "exec /usr/bin/python3 SOURCES/scripts/compute.py 12"),
        plain(
            "python3 -m test test_math test_json test_re",
            PYTHON,
            "/usr/bin/python3 -m test -i test_search_anchor_at_beginning test_math test_json test_re >log; echo $?",
        ),
        plain(
            "bash",
            "bash --version",
            "exec bash -c 'for ((i = 0; i < 400000; i++)); do x=$((x * 31 + i & 65535)); done; echo $x'",
        ),
    ]
}

/// All of them.
pub fn entries() -> Vec<Entry> {
    let mixed = data::mixed(40_000_000);
    let text = data::text(25_000_000);
    let mut entries = threads(&mixed);
    entries.extend(families());
    entries.extend(servers());
    entries.extend(plain(&mixed, &text));
    entries
}
