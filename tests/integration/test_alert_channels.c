/* test_alert_channels.c - syslog, programs, NATS, files and mail as channels, against receivers that take, refuse, hang and break off. */
#include "channel_kit.h"
#include <sys/resource.h>

/* ---- syslog ---- */

/* A receiver in the test's own loop. */
static struct {
    int listener, at; /* -1 = none */
    bool reads, resets;
    char got[1 << 18];
    size_t len;
    int connections;
} rx;

static void receive(struct town *t)
{
    (void)t;
    if (rx.at < 0 && rx.listener >= 0 &&
        (rx.at = accept4(rx.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        rx.connections++;
        if (rx.resets) {
            struct linger now = {1, 0};
            setsockopt(rx.at, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            close(rx.at);
            rx.at = -1;
        }
    }
    while (rx.reads && rx.at >= 0 && rx.len < sizeof rx.got - 1) {
        ssize_t n = recv(rx.at, rx.got + rx.len, sizeof rx.got - 1 - rx.len, 0);
        if (n < 0)
            break;
        rx.len += (size_t)n;
        rx.got[rx.len] = 0;
        if (n == 0) {
            close(rx.at);
            rx.at = -1;
        }
    }
}

static int receiver(struct town *t, bool reads, bool resets)
{
    int port;
    rx.listener = town_socket(SOCK_STREAM, &port);
    rx.at = -1;
    rx.reads = reads;
    rx.resets = resets;
    rx.len = 0;
    rx.connections = 0;
    t->turn = receive;
    return port;
}

static void receiver_gone(struct town *t)
{
    if (rx.at >= 0)
        close(rx.at);
    if (rx.listener >= 0)
        close(rx.listener);
    rx.at = rx.listener = -1;
    t->turn = NULL;
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void syslog_by_udp(void **state)
{
    struct town *t = *state;
    int port, fd = town_socket(SOCK_DGRAM, &port);
    char got[4096];
    town_channel(t, "", "type: syslog, url: \"udp://127.0.0.1:%d\", attempt: 20s, facility: 4", port);
    struct attempt x = town_tell(t, "u1");
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    ssize_t n = recv(fd, got, sizeof got - 1, 0);
    assert_true(n > 0);
    got[n] = 0;
    assert_memory_equal(got, "<35>1 2023-11-14T22:13:20.123Z ", 31); /* no count before it */
    assert_non_null(strstr(got, "[redoubt@32473 id=\"u1\" "));
    assert_non_null(strstr(got, "\xef\xbb\xbf[HIGH] größer <b> & ☂"));
    /* A digest: a datagram for itself and one for each of its alerts, none of them longer than every receiver takes. */
    x = town_tell_many(t, "digest-7", 20);
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    for (int i = 0; i < 21; i++) {
        n = recv(fd, got, sizeof got - 1, 0);
        assert_in_range(n, 60, 2048);
        got[n] = 0;
        assert_int_equal(got[0], '<');
        assert_true((i == 0) == (strstr(got, "id=\"digest-7\"") != NULL));
    }
    assert_true(recv(fd, got, sizeof got, 0) < 0);
    close(fd);
    /* Nobody there: the host says so. */
    x = town_tell(t, "u2");
    assert_int_equal(x.outcome.fault, ALERT_FAULT_CONNECT);
    assert_int_equal(x.class, ALERT_CLASS_QUICK);
    town_channel(t, "", "type: syslog, url: \"udp://nobody.invalid:514\", attempt: 5s");
    assert_int_equal(town_tell(t, "u3").outcome.fault, ALERT_FAULT_RESOLVE);
}

static void syslog_by_tcp(void **state)
{
    struct town *t = *state;
    int port = receiver(t, true, false);
    town_channel(t, "", "type: syslog, url: \"tcp://127.0.0.1:%d\", attempt: 20s", port);
    struct attempt x = town_tell(t, "t1");
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_non_null(strstr(x.detail, "confirms nothing"));
    TOWN_WAIT(t, strstr(rx.got, "id=\"t1\""));
    int size = atoi(rx.got);
    assert_int_equal(strlen(strchr(rx.got, ' ') + 1), size); /* octet counting */
    rx.len = 0;
    x = town_tell_many(t, "digest-8", 100);
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    TOWN_WAIT(t, count(rx.got, "[redoubt@32473 id=\"many") == 100);
    TOWN_WAIT(t, rx.at < 0);
    size_t frames = 0, at = 0;
    for (char *rest; at < rx.len; frames++) {
        size_t len = strtoul(rx.got + at, &rest, 10);
        assert_int_equal(*rest, ' ');
        at = (size_t)(rest + 1 - rx.got) + len;
    }
    assert_int_equal(at, rx.len);
    assert_int_equal(frames, 101);
    receiver_gone(t);
    assert_int_equal(town_tell(t, "t2").outcome.fault, ALERT_FAULT_CONNECT);

    /* One who takes the connection and breaks it off is noticed, each time. */
    port = receiver(t, false, true);
    town_channel(t, "", "type: syslog, url: \"tcp://127.0.0.1:%d\", attempt: 20s", port);
    for (int i = 0; i < 5; i++) {
        x = town_tell_many(t, "digest-9", 100);
        assert_int_equal(x.outcome.fault, ALERT_FAULT_CUT);
        assert_int_equal(x.class, ALERT_CLASS_AGAIN);
    }
    receiver_gone(t);
    /* One who reads nothing: what its host has no room for is not handed over. */
    port = receiver(t, false, false);
    town_channel(t, "", "type: syslog, url: \"tcp://127.0.0.1:%d\", attempt: 400ms", port);
    x = town_tell_many(t, "digest-10", 100);
    assert_int_equal(x.outcome.fault, ALERT_FAULT_TIMEOUT);
    assert_true(x.took_ms >= 390);
    receiver_gone(t);
}

static void make_certificate(struct town *t, const char *name)
{
    char command[2048];
    snprintf(command, sizeof command,
             "cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
             "/CN=test -addext subjectAltName=IP:127.0.0.1 -keyout %s.key -out %s.pem 2>/dev/null",
             t->dir, name, name);
    assert_int_equal(system(command), 0);
}

/* Writes what comes to its log. It ends with its stdin, so that is a FIFO that has no end. */
static struct harness_proc *tls_receiver(struct town *t, const char *name, const char *more)
{
    char command[2048];
    int number = harness_free_port();
    snprintf(
        command, sizeof command,
        "cd '%s' && mkfifo %s.in && exec openssl s_server -accept %d -cert server.pem -key server.key -quiet -CAfile "
        "client.pem %s <>%s.in",
        t->dir, name, number, more, name);
    return harness_run(t->h, name, number, (const char *[]){"sh", "-c", command, NULL});
}

static void syslog_by_tls(void **state)
{
    struct town *t = *state;
    make_certificate(t, "server");
    make_certificate(t, "client");
    make_certificate(t, "other");
    const struct harness_proc *any = tls_receiver(t, "tls-any", ""),
                              *strict = tls_receiver(t, "tls-strict", "-Verify 1 -verify_return_error");
    town_channel(t, "", "type: syslog, url: \"tls://127.0.0.1:%d\", attempt: 4s, ca_file: %s/server.pem", any->port,
                 t->dir);
    struct attempt x = town_tell(t, "s1");
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    TOWN_WAIT(t, strstr(town_file(t, "tls-any.log"), "id=\"s1\""));
    x = town_tell_many(t, "digest-11", 50);
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    TOWN_WAIT(t, count(town_file(t, "tls-any.log"), "[redoubt@32473 id=\"many") == 50);
    /* Of an authority that nobody trusts. */
    town_channel(t, "", "type: syslog, url: \"tls://127.0.0.1:%d\", attempt: 4s, ca_file: %s/other.pem", any->port,
                 t->dir);
    x = town_tell(t, "s2");
    assert_int_equal(x.outcome.fault, ALERT_FAULT_TLS);
    assert_int_equal(x.class, ALERT_CLASS_QUICK);
    town_channel(t, "", "type: syslog, url: \"tls://127.0.0.1:%d\", attempt: 4s, ca_file: /nonexistent.pem",
                 any->port);
    assert_int_not_equal(town_tell(t, "s3").class, ALERT_CLASS_ACCEPTED);
    assert_null(strstr(town_file(t, "tls-any.log"), "id=\"s2\""));
    /* One who wants to know us. */
    town_channel(t, "",
                 "type: syslog, url: \"tls://127.0.0.1:%d\", attempt: 4s, ca_file: %s/server.pem, cert_file: "
                 "%s/client.pem, key_file: %s/client.key",
                 strict->port, t->dir, t->dir, t->dir);
    assert_int_equal(town_tell(t, "s4").class, ALERT_CLASS_ACCEPTED);
    TOWN_WAIT(t, strstr(town_file(t, "tls-strict.log"), "id=\"s4\""));
    town_channel(t, "", "type: syslog, url: \"tls://127.0.0.1:%d\", attempt: 4s, ca_file: %s/server.pem",
                 strict->port, t->dir);
    (void)town_tell(t,
                    "s5"); /* TLS 1.3 refuses a client after its handshake: seen or not, nothing has come through */
    assert_null(strstr(town_file(t, "tls-strict.log"), "id=\"s5\""));
    /* One who does not speak TLS, and one who says nothing. */
    int port = receiver(t, true, false);
    town_channel(t, "", "type: syslog, url: \"tls://127.0.0.1:%d\", attempt: 300ms, ca_file: %s/server.pem", port,
                 t->dir);
    assert_int_equal(town_tell(t, "s6").outcome.fault, ALERT_FAULT_TIMEOUT);
    receiver_gone(t);
    port = receiver(t, false, true);
    town_channel(t, "", "type: syslog, url: \"tls://127.0.0.1:%d\", attempt: 20s, ca_file: %s/server.pem", port,
                 t->dir);
    assert_int_not_equal(town_tell(t, "s7").class, ALERT_CLASS_ACCEPTED);
    receiver_gone(t);
}

/* ---- programs ---- */

static void exec_channel(struct town *t, const char *program, const char *args, const char *more)
{
    char allowed[800];
    snprintf(allowed, sizeof allowed, "  exec_allowed: [\"%s\"]\n", program);
    town_channel(t, allowed, "type: exec, command: [\"%s\"%s], attempt: %s", program, args, more);
}

static void a_program_takes_it(void **state)
{
    struct town *t = *state;
    setenv("SECRET_OF_OURS", "x", 1);
    const char *path =
        town_script(t, "take", "cat > \"$1\"; env > \"$1.env\"; echo; echo taken well; echo more; exit 0\n");
    char args[700];
    snprintf(args, sizeof args, ", \"%s/got $HOME; x\"", t->dir); /* an argument, whatever it looks like */
    exec_channel(t, path, args, "5s");
    struct attempt x = town_tell(t, "e1");
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_string_equal(x.detail, "exit 0: taken well");
    const char *got = town_file(t, "got $HOME; x");
    assert_non_null(strstr(got, "\"kind\":\"one\""));
    assert_non_null(strstr(got, "\"id\":\"e1\""));
    const char *env = town_file(t, "got $HOME; x.env");
    assert_non_null(strstr(env, "REDOUBT_ALERT_ID=e1\n"));
    assert_non_null(strstr(env, "REDOUBT_ALERT_SEVERITY=HIGH\n"));
    assert_non_null(strstr(env, "REDOUBT_ALERT_RESOLVED=false\n"));
    assert_non_null(strstr(env, "REDOUBT_ALERT_KIND=one\n"));
    assert_non_null(strstr(env, "REDOUBT_CHANNEL=it\n"));
    assert_non_null(strstr(env, "PATH=/usr/local/sbin:"));
    assert_null(strstr(env, "SECRET_OF_OURS"));
    x = town_tell_many(t, "digest-12", 100); /* more than a pipe holds */
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    got = town_file(t, "got $HOME; x");
    assert_int_equal(count(got, "\"id\":\"many"), 100);
    assert_non_null(strstr(town_file(t, "got $HOME; x.env"), "REDOUBT_ALERT_COUNT=1000\n"));
}

static void programs_that_fail(void **state)
{
    struct town *t = *state;
    static const struct {
        const char *text;
        enum alert_fault fault;
        int status;
        enum alert_class class;
        const char *detail;
    } rows[] = {
        {"exit 75", ALERT_FAULT_NONE, 75, ALERT_CLASS_AGAIN, "exit 75"},
        {"echo out; echo no such pager >&2; exit 3", ALERT_FAULT_NONE, 3, ALERT_CLASS_REJECTED,
         "exit 3: no such pager"},
        {"echo only out; exit 1", ALERT_FAULT_NONE, 1, ALERT_CLASS_REJECTED, "exit 1: only out"},
        {"printf '\\377\\001x\\n'; exit 1", ALERT_FAULT_NONE, 1, ALERT_CLASS_REJECTED, "exit 1: ? x"},
        {"kill -9 $$", ALERT_FAULT_CUT, 0, ALERT_CLASS_AGAIN, "ended by signal 9"},
        /* It reads nothing and says too much. */
        {"exec <&-; i=0; while [ $i -lt 3000 ]; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); "
         "done; exit 0",
         ALERT_FAULT_NONE, 0, ALERT_CLASS_ACCEPTED, "exit 0: xxxx"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        exec_channel(t, town_script(t, "fail", rows[i].text), "", "8s");
        struct attempt x = town_tell(t, "f");
        assert_int_equal(x.outcome.fault, rows[i].fault);
        assert_int_equal(x.outcome.status, rows[i].status);
        assert_int_equal(x.class, rows[i].class);
        assert_memory_equal(x.detail, rows[i].detail, strlen(rows[i].detail));
    }
}

/* The pids that a script has left in a file: 0 if none of them runs. */
static int alive(struct town *t, const char *name)
{
    int n = 0;
    for (const char *p = town_file(t, name); *p; p += strcspn(p, "\n"), p += *p == '\n') {
        char path[64], stat[512] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", atoi(p));
        FILE *f = fopen(path, "re");
        if (f) {
            (void)!fgets(stat, sizeof stat, f);
            fclose(f);
        }
        n += *stat && !strstr(stat, ") Z "); /* who reaps orphans may be slow */
    }
    return n;
}

static void nothing_outlives_an_attempt(void **state)
{
    struct town *t = *state;
    char text[1024];
    snprintf(text, sizeof text, "trap '' TERM\nsleep 300 & echo $! > '%s/pids'\necho $$ >> '%s/pids'\nwait\n", t->dir,
             t->dir);
    exec_channel(t, town_script(t, "hang", text), "", "500ms");
    struct attempt x = town_tell(t, "h1");
    assert_int_equal(x.outcome.fault, ALERT_FAULT_TIMEOUT);
    assert_int_equal(x.class, ALERT_CLASS_AGAIN);
    assert_int_equal(count(town_file(t, "pids"), "\n"), 2);
    TOWN_WAIT(t, alive(t, "pids") == 0);
    /* One that goes well and leaves somebody behind, who holds its output. */
    snprintf(text, sizeof text, "sleep 300 &\necho $! > '%s/left'\nexit 0\n", t->dir);
    exec_channel(t, town_script(t, "leave", text), "", "5s");
    x = town_tell(t, "h2");
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_true(x.took_ms < 4000);
    TOWN_WAIT(t, alive(t, "left") == 0);
    /* The service ends while one runs. */
    snprintf(text, sizeof text, "echo $$ > '%s/stopped'\nsleep 300\n", t->dir);
    exec_channel(t, town_script(t, "stop", text), "", "60s");
    PB(Alert) a = town_alert("h3");
    const PB(Alert) *one = &a;
    struct alert_message m = alert_message_one(&one, NULL);
    town_begin(t, &x, &m);
    TOWN_WAIT(t, strchr(town_file(t, "stopped"), '\n'));
    t->r.closing = true;
    t->c->kind->stop(t->c);
    assert_true(x.done);
    TOWN_WAIT(t, alive(t, "stopped") == 0);
}

static void programs_that_are_not_run(void **state)
{
    struct town *t = *state;
    char dir[700], path[800], ran[800];
    const char *good = town_script(t, "good", "touch \"$1\"\n");
    snprintf(ran, sizeof ran, ", \"%s/ran\"", t->dir);
    exec_channel(t, good, ran, "5s");
    assert_int_equal(town_tell(t, "n0").class, ALERT_CLASS_ACCEPTED);
    snprintf(path, sizeof path, "%s/ran", t->dir);
    assert_int_equal(unlink(path), 0);
    /* Others may write it. */
    static const mode_t modes[] = {0720, 0702, 0600};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(good, modes[i]), 0);
        struct attempt x = town_tell(t, "n1");
        assert_int_equal(x.outcome.fault, ALERT_FAULT_SETTINGS);
        assert_int_equal(x.class, ALERT_CLASS_REFUSED);
        assert_non_null(strstr(x.detail, modes[i] == 0600 ? "it is not a program" : "may write it"));
    }
    assert_int_equal(chmod(good, 0700), 0);
    /* Or a directory above it. */
    snprintf(dir, sizeof dir, "%s/open", t->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(chmod(dir, 0777), 0);
    town_script(t, "open/inside", "touch \"$1\"\n");
    snprintf(path, sizeof path, "%s/open/inside", t->dir);
    exec_channel(t, path, ran, "5s");
    assert_non_null(strstr(town_tell(t, "n2").detail, "may write it"));
    /* Also by a link that is safe itself. */
    char link[800];
    snprintf(link, sizeof link, "%s/link", t->dir);
    assert_int_equal(symlink(path, link), 0);
    exec_channel(t, link, ran, "5s");
    assert_non_null(strstr(town_tell(t, "n3").detail, "may write it"));
    assert_int_equal(chmod(dir, 01777), 0); /* sticky, and ours: nobody else can replace it */
    assert_int_equal(town_tell(t, "n4").class, ALERT_CLASS_ACCEPTED);
    snprintf(path, sizeof path, "%s/ran", t->dir);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/absent", t->dir);
    exec_channel(t, path, ran, "5s");
    assert_int_equal(town_tell(t, "n5").outcome.fault, ALERT_FAULT_SETTINGS);
    exec_channel(t, t->dir, ran, "5s"); /* a directory */
    assert_non_null(strstr(town_tell(t, "n6").detail, "it is not a program"));
    snprintf(path, sizeof path, "%s/ran", t->dir);
    assert_int_not_equal(access(path, F_OK), 0); /* none of them was */
    /* Not what is on the list: the settings are refused. */
    char text[3000];
    struct conf_report report = {0};
    snprintf(path, sizeof path, "%s/redoubt.yaml", t->dir);
    snprintf(text, sizeof text,
             "alert:\n  exec_allowed: [/bin/true]\n  channels:\n    - { name: it, type: exec, command: [%s] }\n",
             good);
    FILE *f = fopen(path, "we");
    fputs(text, f);
    fclose(f);
    assert_null(settings_load(path, &report));
    assert_non_null(strstr(report.lines[0], "exec_allowed"));
    conf_report_free(&report);
}

/* ---- NATS ---- */

struct heard {
    int n;
    char id[128], text[4096];
};

static void on_heard(void *ctx, const struct bus_msg *m)
{
    struct heard *x = ctx;
    x->n++;
    snprintf(x->id, sizeof x->id, "%s", m->id ? m->id : "");
    snprintf(x->text, sizeof x->text, "%.*s", (int)m->len, (const char *)m->data);
}

static void on_api(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    assert_int_equal(st, BUS_OK);
    if (strstr((const char *)m->data, "\"error\""))
        fail_msg("%.*s", (int)m->len, (const char *)m->data);
    *(bool *)ctx = true;
}

static void api(struct town *t, const char *subject, const char *body)
{
    bool done = false;
    bus_request(t->s.bus, &(struct bus_out){.subject = subject, .data = body, .len = strlen(body)}, 5000, on_api,
                &done);
    TOWN_WAIT(t, done);
}

static void a_subject(void **state)
{
    struct town *t = *state;
    struct heard x = {0};
    town_bus(t);
    town_channel(t, "", "type: nats, subject: ops.alerts, attempt: 3s");
    /* Nobody would hear it: that is no telling. */
    struct attempt a = town_tell(t, "n1");
    assert_int_equal(a.outcome.fault, ALERT_FAULT_CONNECT);
    assert_int_equal(a.class, ALERT_CLASS_QUICK);
    struct bus_sub *sub = bus_subscribe(t->s.bus, "ops.>", NULL, on_heard, &x);
    a = town_tell(t, "n2");
    assert_int_equal(a.class, ALERT_CLASS_ACCEPTED);
    assert_non_null(strstr(a.detail, "no stream"));
    TOWN_WAIT(t, x.n == 1);
    assert_string_equal(x.id, "n2");
    assert_non_null(strstr(x.text, "\"id\":\"n2\""));
    a = town_tell(t, "n3"); /* by what is known already */
    assert_int_equal(a.class, ALERT_CLASS_ACCEPTED);
    bus_unsubscribe(sub);

    /* A stream has it, once, however often it is tried. */
    api(t, "$JS.API.STREAM.CREATE.OPS", "{\"name\":\"OPS\",\"subjects\":[\"kept.*\"],\"max_msg_size\":4000}");
    town_channel(t, "", "type: nats, subject: kept.alerts, attempt: 3s");
    a = town_tell(t, "k1");
    assert_int_equal(a.class, ALERT_CLASS_ACCEPTED);
    assert_string_equal(a.detail, "stream OPS, sequence 1");
    a = town_tell(t, "k1");
    assert_int_equal(a.class, ALERT_CLASS_ACCEPTED);
    assert_string_equal(a.detail, "stream OPS, sequence 1, which had it already");
    a = town_tell(t, "k2");
    assert_string_equal(a.detail, "stream OPS, sequence 2");
    a = town_tell_many(t, "digest-13", 10);
    assert_int_equal(a.class, ALERT_CLASS_REJECTED);
    assert_non_null(strstr(a.detail, "the stream refuses it: message size exceeds"));

    /* A server that hangs, and one that is gone. */
    town_channel(t, "", "type: nats, subject: kept.alerts, attempt: 2s");
    harness_freeze(t->nats);
    a = town_tell(t, "k4");
    assert_int_equal(a.outcome.fault, ALERT_FAULT_TIMEOUT);
    harness_thaw(t->nats);
    a = town_tell(t, "k4"); /* it had come through after all, or it comes now: once */
    assert_int_equal(a.class, ALERT_CLASS_ACCEPTED);
    assert_non_null(strstr(a.detail, "stream OPS, sequence 3"));
    harness_kill(t->nats);
    TOWN_WAIT(t, !bus_up(t->s.bus));
    a = town_tell(t, "k5");
    assert_int_equal(a.outcome.fault, ALERT_FAULT_CONNECT);
    assert_string_equal(a.detail, "not connected to NATS");
}

/* ---- files ---- */

static void files_are_turned_over(void **state)
{
    struct town *t = *state;
    town_channel(t, "", "type: file, path: %s/record, max_size: 4096, keep: 3", t->dir);
    char id[32];
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "line%03d", i);
        assert_int_equal(town_tell(t, id).class, ALERT_CLASS_ACCEPTED);
    }
    /* The newest are there, whole, in order, without a gap. */
    static char all[1 << 16];
    static const char *const names[] = {"record.3", "record.2", "record.1", "record"};
    all[0] = 0;
    for (size_t i = 0; i < 4; i++) {
        const char *text = town_file(t, names[i]);
        assert_in_range(strlen(text), 200, 4096);
        assert_int_equal(text[strlen(text) - 1], '\n');
        strcat(all, text);
    }
    char path[700];
    snprintf(path, sizeof path, "%s/record.4", t->dir);
    assert_int_not_equal(access(path, F_OK), 0);
    const char *at = strstr(all, "line");
    int first = atoi(at + 4);
    assert_in_range(first, 1, 70);
    for (int i = first; i < 100; i++) {
        snprintf(id, sizeof id, "\"line%03d\"", i);
        at = strstr(at - 1, id);
        assert_non_null(at);
    }
    /* A line that is longer than the limit has a file of its own. */
    struct attempt x = town_tell_many(t, "digest-14", 3);
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(count(town_file(t, "record"), "\"id\":\"many"), 3);
    assert_int_equal(town_tell(t, "after").class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(count(town_file(t, "record.1"), "\"id\":\"many"), 3);
    assert_int_equal(count(town_file(t, "record"), "\n"), 1);
}

/* Two channels with one path are, as far as the file goes, two replicas: they turn it over at the same time. */
static void two_replicas_write_one_file(void **state)
{
    struct town *t = *state;
    town_channel(t, "", "type: file, path: %s/both, max_size: 4096, keep: 100", t->dir);
    struct alert_channel *first = t->c;
    struct alert_channel *second = alert_channel_new(&t->r, &first->set);
    for (int i = 0; i < 100; i++) {
        struct attempt x[2];
        char ids[2][16];
        PB(Alert) a[2];
        const PB(Alert) * one[2];
        struct alert_message m[2];
        for (int k = 0; k < 2; k++) {
            snprintf(ids[k], sizeof ids[k], "%s%03d", k ? "other" : "mine", i);
            a[k] = town_alert(ids[k]);
            one[k] = &a[k];
            m[k] = alert_message_one(&one[k], NULL);
            t->c = k ? second : first;
            town_begin(t, &x[k], &m[k]);
            (void)alert_channel_tick(t->c, clock_mono_ms());
        }
        town_end(t, &x[0]);
        town_end(t, &x[1]);
        assert_int_equal(x[0].class, ALERT_CLASS_ACCEPTED);
        assert_int_equal(x[1].class, ALERT_CLASS_ACCEPTED);
    }
    alert_channel_unref(second);
    t->c = first;
    size_t mine = 0, other = 0, files = 0;
    for (int i = 0; i <= 100; i++) {
        char name[32];
        snprintf(name, sizeof name, i ? "both.%d" : "both", i);
        const char *text = town_file(t, name);
        assert_true(strlen(text) <= 4096);
        files += *text != 0;
        mine += count(text, "\"mine");
        other += count(text, "\"other");
    }
    assert_int_equal(mine, 100);
    assert_int_equal(other, 100);
    assert_in_range(files, 8, 20); /* full ones: nobody has turned over what the other had begun just now */
}

static void records_that_cannot_be_written(void **state)
{
    struct town *t = *state;
    char path[700];
    /* A FIFO that nobody reads: at once, not never. */
    snprintf(path, sizeof path, "%s/fifo", t->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    town_channel(t, "", "type: file, path: %s", path);
    struct attempt x = town_tell(t, "w1");
    assert_int_equal(x.outcome.fault, ALERT_FAULT_DISK);
    assert_int_equal(x.class, ALERT_CLASS_REFUSED);
    assert_non_null(strstr(x.detail, "not a regular file"));
    assert_true(x.took_ms < 5000);
    static const char *const wrong[] = {"/dev/null", "/dev/full", "/nonexistent/record"};
    for (size_t i = 0; i < 3; i++) {
        town_channel(t, "", "type: file, path: %s", wrong[i]);
        assert_int_equal(town_tell(t, "w2").outcome.fault, ALERT_FAULT_DISK);
    }
    town_channel(t, "", "type: file, path: %s", t->dir);
    assert_int_equal(town_tell(t, "w3").outcome.fault, ALERT_FAULT_DISK);
    /* Full: the half line that went in is taken back, and what was there stays. */
    town_channel(t, "", "type: file, path: %s/full", t->dir);
    assert_int_equal(town_tell(t, "w4").class, ALERT_CLASS_ACCEPTED);
    size_t before = strlen(town_file(t, "full"));
    struct rlimit was, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small = was;
    small.rlim_cur = before + 50;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    x = town_tell(t, "w5");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(x.outcome.fault, ALERT_FAULT_DISK);
    assert_int_equal(strlen(town_file(t, "full")), before);
    assert_int_equal(town_tell(t, "w6").class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(count(town_file(t, "full"), "\n"), 2);
    /* It cannot be turned over: it is written on, beyond its limit. */
    char dir[700];
    snprintf(dir, sizeof dir, "%s/over", t->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    town_channel(t, "", "type: file, path: %s/over/record, max_size: 4096, keep: 1", t->dir);
    assert_int_equal(town_tell(t, "w7").class, ALERT_CLASS_ACCEPTED);
    snprintf(path, sizeof path, "%s/over/record.1", t->dir);
    assert_int_equal(mkdir(path, 0700), 0); /* rename() cannot replace it */
    assert_int_equal(town_tell_many(t, "digest-15", 2).class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(count(town_file(t, "over/record"), "\n"), 3);
    /* The directory goes while the service runs, and comes back. */
    assert_int_equal(rmdir(path), 0);
    snprintf(path, sizeof path, "%s/over/record", t->dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(town_tell(t, "w8").outcome.fault, ALERT_FAULT_DISK);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(town_tell(t, "w9").class, ALERT_CLASS_ACCEPTED);
}

/* ---- mail ---- */

static void mail_names_whom_it_did_not_reach(void **state)
{
    struct town *t = *state;
    char port[16], control[16], program[4200];
    int number = harness_free_port(), ctl = harness_free_port();
    snprintf(port, sizeof port, "%d", number);
    snprintf(control, sizeof control, "%d", ctl);
    ssize_t n = readlink("/proc/self/exe", program, 4000);
    program[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 3; up++) /* tests/integration/test_x */
        *strrchr(program, '/') = 0;
    strcat(program, "/bin/redoubt");
    harness_run(
        t->h, "smtp", ctl,
        (const char *[]){program, "sim", "smtp", "--port", port, "--control", control, "--mode", "partial", NULL});
    town_channel(
        t, "",
        "type: email, url: \"smtp://127.0.0.1:%d\", attempt: 5s, from: r@example.org, to: [gone1@example.org, "
        "ops@example.org, later@example.org]",
        number);
    struct attempt x = town_tell(t, "m1");
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(x.outcome.status, 250);
    assert_string_equal(x.detail, "taken for 1 of 3 receivers");
    assert_int_equal(x.n_refused, 2);
    assert_string_equal(x.refused[0], "gone1@example.org: 550 5.1.1 no such user here");
    assert_string_equal(x.refused[1], "later@example.org: 451 4.2.0 try again later");
    /* All for good: rejected. One of them only for now: again. */
    town_channel(
        t, "",
        "type: email, url: \"smtp://127.0.0.1:%d\", attempt: 5s, from: r@example.org, to: [gone1@example.org, "
        "gone2@example.org]",
        number);
    x = town_tell(t, "m2");
    assert_int_equal(x.class, ALERT_CLASS_REFUSED);
    assert_int_equal(x.outcome.status, 550);
    assert_int_equal(x.n_refused, 0);
    assert_string_equal(x.detail, "none of 2 receivers is taken; gone1@example.org: 550 5.1.1 no such user here");
    town_channel(
        t, "",
        "type: email, url: \"smtp://127.0.0.1:%d\", attempt: 5s, from: r@example.org, to: [later@example.org, "
        "gone2@example.org]",
        number);
    x = town_tell(t, "m3");
    assert_int_equal(x.class, ALERT_CLASS_AGAIN);
    assert_int_equal(x.outcome.status, 451);
}

#define TOWN(fn) cmocka_unit_test_setup_teardown(fn, town_setup, town_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOWN(syslog_by_udp),
        TOWN(syslog_by_tcp),
        TOWN(syslog_by_tls),
        TOWN(a_program_takes_it),
        TOWN(programs_that_fail),
        TOWN(nothing_outlives_an_attempt),
        TOWN(programs_that_are_not_run),
        TOWN(a_subject),
        TOWN(files_are_turned_over),
        TOWN(two_replicas_write_one_file),
        TOWN(records_that_cannot_be_written),
        TOWN(mail_names_whom_it_did_not_reach),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
