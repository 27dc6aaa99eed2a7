/* test_alert_web.c - the channels that POST: webhook, PagerDuty, Teams, Discord and ntfy by the real redoubt-alert, against `redoubt sim hook`
 * in every mode; and templates, good ones, wrong ones and ones without an end. */
#include "alert_town.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define TOKEN  "tk_0123456789"
#define KEY    "0123456789abcdef0123456789abcdef"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static struct sim hook;
static char tls_rows[4096]; /* channels by TLS, once there are servers */

/* `route` is the order of the one route; `endless` the program of a channel that has none of its own. */
static void write_web(struct town *t, const char *route, const char *program)
{
    FILE *f = fopen(t->config, "we");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d }\n"
            "data_dir: %s/data\n"
            "log: { level: debug }\n"
            "alert:\n"
            "  channels:\n",
            t->k->nats->url, t->redis->port, harness_dir(t->k->h));
    static const struct {
        const char *name, *type, *path, *more;
    } rows[] = {
        {"hook", "webhook", "/hook/a", "secret: \"" SECRET "\", token: " TOKEN ", headers: [\"X-Team: blue\"]"},
        {"badly-signed", "webhook", "/hook/a", "secret: \"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", token: " TOKEN},
        {"unsigned", "webhook", "/hook/a", "token: " TOKEN},
        {"no-token", "webhook", "/hook/a", "secret: \"" SECRET "\""},
        {"pager", "pagerduty", "/v2/enqueue", "token: " KEY},
        {"bad-pager", "pagerduty", "/v2/enqueue", "token: 0123"},
        {"teams", "teams", "/workflows/x", ""},
        {"connector", "teams", "/webhookb2/x", ""},
        {"discord", "discord", "/api/webhooks/1/x", ""},
        {"push", "ntfy", "/alerts_1", "token: " TOKEN},
        {"shaped", "webhook", "/hook/shaped",
         "secret: \"" SECRET "\", token: " TOKEN
         ", template: \"{words: .title, n: (.alerts|length), e: $ENV, f: env}\""},
        {"worded", "webhook", "/hook/worded", "secret: \"" SECRET "\", token: " TOKEN ", template: .severity"},
        {"push-shaped", "ntfy", "/alerts_2", "token: " TOKEN ", template: \"{message: .id, topic: 7, priority: 1}\""},
        {"push-worded", "ntfy", "/alerts_3", "token: " TOKEN ", template: .text"},
        {"hungry", "webhook", "/hook/hungry", "token: " TOKEN ", template: \"def r: [r]; r\""},
        {"failing", "webhook", "/hook/failing", "token: " TOKEN ", template: .title + 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        fprintf(
            f,
            "    - { name: %s, type: %s, url: \"http://127.0.0.1:%d%s\", attempt: %s, tries: 2, deadline: 20s, "
            "rate: 0%s%s }\n",
            rows[i].name, rows[i].type, hook.port, rows[i].path,
            /* a process has to start: no measure of how fast */ strstr(rows[i].more, "template") ? "15s" : "500ms",
            *rows[i].more ? ", " : "", rows[i].more);
    fprintf(
        f,
        "    - { name: program, type: webhook, url: \"http://127.0.0.1:%d/hook/program\", attempt: 15s, tries: 2, "
        "deadline: 20s, secret: \"" SECRET "\", token: " TOKEN ", template: \"%s\" }\n"
        "%s"
        "    - { name: post, type: email, url: \"smtp://127.0.0.1:%d\", from: redoubt@example.org, to: "
        "[ops@example.org], attempt: 5s, tries: 2 }\n"
        "    - { name: record, type: file, path: %s }\n"
        "  routes:\n"
        "    - { min_severity: info, channels: [%s] }\n",
        hook.port, program, tls_rows, t->smtp.port, t->record, route);
    fclose(f);
}

static void on_ready(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    (void)m;
    *(int *)ctx = st == BUS_OK ? 1 : -1;
}

/* Started anew, and it answers. */
static void restart(struct town *t)
{
    restart_alert(t);
    for (int up = 0; up != 1;) {
        up = 0;
        bus_request(t->kb.b, &(struct bus_out){.subject = SUBJECT_CMD "alert.show"}, 1000, on_ready, &up);
        KIT_WAIT(t->k, up != 0);
        if (up < 0)
            kit_turn(t->k);
        assert_true(harness_alive(t->alert));
    }
}

static int web_setup(void **state)
{
    if (town_setup(state))
        return -1;
    struct town *t = *state;
    char port[16], control[16];
    hook.port = harness_free_port();
    hook.control = harness_free_port();
    snprintf(port, sizeof port, "%d", hook.port);
    snprintf(control, sizeof control, "%d", hook.control);
    const char *argv[] = {bin("redoubt"), "sim",      "hook", "--port",  port,  "--control",
                          control,        "--secret", SECRET, "--token", TOKEN, NULL};
    hook.proc = harness_run(t->k->h, "hook", hook.control, argv);
    write_web(t, "hook, post, record", ".");
    restart(t);
    return 0;
}

static int web_teardown(void **state)
{
    int ended = harness_stop(hook.proc);
    if (ended)
        print_error("exit code of sim hook: %d\n", ended);
    return town_teardown(state) || ended ? -1 : 0;
}

/* A test by one channel: is it accepted; the answer's text stays until the next. */
static bool accepts(struct town *t, const char *channel)
{
    return command(t, "test", channel)->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
}

/* The last request on a path; NULL = none. Belongs to the town. */
static const json_t *last_on(struct town *t, const char *path)
{
    const json_t *list = json_object_get(ask(t, &hook, "/sim/requests", NULL), "requests");
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *r = json_array_get(list, i);
        if (strcmp(json_string_value(json_object_get(r, "path")), path) == 0)
            return r;
    }
    return NULL;
}

static const char *head_of(const json_t *r, const char *name)
{
    const char *value = json_string_value(json_object_get(json_object_get(r, "headers"), name));
    return value ? value : "";
}

static json_t *body_of(const json_t *r)
{
    json_t *body = json_loads(json_string_value(json_object_get(r, "body")), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(body);
    return body;
}

static bool log_holds(const struct town *t, const char *text)
{
    static char log[8 << 20];
    char path[700];
    snprintf(path, sizeof path, "%s/alert.log", harness_dir(t->k->h));
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t n = fread(log, 1, sizeof log - 1, f);
    fclose(f);
    log[n] = 0;
    assert_true(n > 0);
    return strstr(log, text) != NULL;
}

/* ---- what goes out ---- */

static void each_is_taken(void **state)
{
    struct town *t = *state;
    static const char *const names[] = {"hook", "pager",  "teams",  "connector",   "discord",
                                        "push", "shaped", "worded", "push-shaped", "push-worded"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!accepts(t, names[i]))
            fail_msg("%s", t->reply->message);

    const json_t *r = last_on(t, "/hook/a");
    assert_string_equal(head_of(r, "x-team"), "blue");
    assert_string_equal(head_of(r, "content-type"), "application/json");
    assert_string_equal(head_of(r, "idempotency-key"), head_of(r, "webhook-id"));
    assert_int_equal(strncmp(head_of(r, "webhook-signature"), "v1,", 3), 0);
    assert_true(atoll(head_of(r, "webhook-timestamp")) > 1700000000);
    json_t *body = body_of(r);
    assert_string_equal(json_string_value(json_object_get(body, "id")), head_of(r, "webhook-id"));
    assert_string_equal(json_string_value(json_object_get(body, "kind")), "one");
    assert_int_equal(json_array_size(json_object_get(body, "alerts")), 1);
    json_decref(body);

    body = body_of(last_on(t, "/hook/shaped"));
    assert_int_equal(json_integer_value(json_object_get(body, "n")), 1);
    assert_string_equal(json_string_value(json_object_get(body, "words")),
                        "[INFO] Test of alert channel shaped, asked for by eve");
    /* What the environment holds is nobody's business. */
    assert_true(json_is_object(json_object_get(body, "e")) && json_is_object(json_object_get(body, "f")));
    assert_int_equal(json_object_size(json_object_get(body, "e")) + json_object_size(json_object_get(body, "f")), 0);
    json_decref(body);

    r = last_on(t, "/hook/worded");
    assert_string_equal(json_string_value(json_object_get(r, "body")), "INFO");
    assert_string_equal(head_of(r, "content-type"), "text/plain; charset=utf-8");

    body = body_of(last_on(t, "/"));
    assert_string_equal(json_string_value(json_object_get(body, "topic")), "alerts_3");
    assert_non_null(strstr(json_string_value(json_object_get(body, "message")), "Nothing is wrong"));
    json_decref(body);

    /* Whoever checks finds the wrong ones. */
    static const struct {
        const char *name, *says;
    } wrong[] = {{"badly-signed", "HTTP 401"},
                 {"unsigned", "HTTP 401"},
                 {"no-token", "HTTP 401"},
                 {"bad-pager", "Invalid routing key"},
                 {"failing", "template: it fails: string"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(accepts(t, wrong[i].name));
        if (!strstr(t->reply->message, wrong[i].says))
            fail_msg("%s", t->reply->message);
    }
    assert_false(log_holds(t, SECRET) || log_holds(t, TOKEN) || log_holds(t, KEY));
}

static void every_failure_of_every_one(void **state)
{
    struct town *t = *state;
    static const char *const names[] = {"hook", "pager", "teams", "connector", "discord", "push"};
    /* What an answer has to be where only the status counts, and where it does not. */
    static const struct {
        const char *mode;
        bool hook, others;
        const char *says; /* NULL = it differs */
    } rows[] = {
        {"slow", true, true, NULL},   {"refuse", false, false, NULL},    {"hang", false, false, "timed out"},
        {"cut", false, false, NULL},  {"schema", true, false, NULL},     {"garbage", true, false, NULL},
        {"huge", true, false, NULL},  {"wrong-type", true, false, NULL}, {"400", false, false, "400"},
        {"401", false, false, "401"}, {"403", false, false, "403"},      {"404", false, false, "404"},
        {"408", false, false, "408"}, {"410", false, false, "410"},      {"413", false, false, "413"},
        {"429", false, false, "429"}, {"500", false, false, "500"},      {"502", false, false, "502"},
        {"503", false, false, "503"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mode(t, &hook, rows[i].mode);
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            bool ok = k == 0 ? rows[i].hook : rows[i].others;
            if (accepts(t, names[k]) != ok)
                fail_msg("mode %s: %s", rows[i].mode, t->reply->message);
            const char *says = rows[i].says && strcmp(rows[i].mode, "hang") == 0 ? NULL : rows[i].says;
            if (says && !strstr(t->reply->message, says))
                fail_msg("mode %s: %s", rows[i].mode, t->reply->message);
        }
    }
    mode(t, &hook, "ok");
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (!accepts(t, names[k]))
            fail_msg("%s", t->reply->message);
    assert_false(log_holds(t, "do-not-log-this")); /* what the other side says at length */
}

/* ---- alerts on their way ---- */

static const char *incident(struct town *t, const char *key)
{
    const char *s =
        json_string_value(json_object_get(json_object_get(ask(t, &hook, "/sim/state", NULL), "incidents"), key));
    return s ? s : "none";
}

/* A person takes a problem on; true if the service says yes. */
static bool take_on(struct town *t, const char *key)
{
    PB(AlertCommand) c = REDOUBT__V1__ALERT_COMMAND__INIT;
    c.problem = (char *)key;
    c.by = (char *)"eve";
    c.reason = (char *)"I look after it";
    size_t len = 0;
    struct err e;
    void *data = wire_pack(&c, &len, &e);
    assert_non_null(data);
    t->answered = false;
    bus_request(
        t->kb.b,
        &(struct bus_out){.subject = SUBJECT_CMD "alert.ack", .type = wire_type(&c), .data = data, .len = len}, 5000,
        on_reply, t);
    free(data);
    KIT_WAIT(t->k, t->answered);
    return t->reply->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
}

static void pagerduty_opens_and_closes(void **state)
{
    struct town *t = *state;
    write_web(t, "pager, post, record", ".");
    restart(t);
    raise_alert(t, "i1", "disk/full on ☂", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "i1", "pager"));
    assert_string_equal(incident(t, "disk/full on ☂"), "triggered");
    KIT_WAIT(t->k, take_on(t, "disk/full on ☂"));
    KIT_WAIT(t->k, strcmp(incident(t, "disk/full on ☂"), "acknowledged") == 0);
    raise_alert(t, "i2", "disk/full on ☂", SEV(HIGH), true);
    KIT_WAIT(t->k, delivered(t, "i2", "pager"));
    assert_string_equal(incident(t, "disk/full on ☂"), "resolved");
    assert_non_null(strstr(record_text(t), "\"i2\""));
}

static void the_same_id_at_each_attempt(void **state)
{
    struct town *t = *state;
    int alerts = t->channel_alerts;
    write_web(t, "hook, post, record", ".");
    restart(t);
    ask(t, &hook, "/sim/mode", "{\"mode\":\"500\",\"count\":1}");
    raise_alert(t, "w1", "w1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "w1", "hook"));
    assert_int_equal(receipts(t, "w1", "hook", ST(RETRYING)), 1);
    const json_t *list = json_object_get(ask(t, &hook, "/sim/requests", NULL), "requests"), *r;
    size_t i, n = 0;
    json_array_foreach((json_t *)list, i, r) n +=
        strcmp(head_of(r, "webhook-id"), "w1") == 0 && strcmp(head_of(r, "idempotency-key"), "w1") == 0;
    assert_int_equal(n, 2);

    /* Gone for good: the next channel at once. */
    mode(t, &hook, "410");
    raise_alert(t, "w2", "w2", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "w2", "post"));
    assert_int_equal(receipts(t, "w2", "hook", ST(RETRYING)), 0);
    assert_int_equal(receipts(t, "w2", "hook", ST(FAILED)), 1);
    KIT_WAIT(t->k, t->channel_alerts == alerts + 1);
    mend(t, &hook, "hook");
}

static void discord_says_how_long_to_wait(void **state)
{
    struct town *t = *state;
    write_web(t, "discord, post, record", ".");
    restart(t);
    ask(t, &hook, "/sim/mode", "{\"mode\":\"429\",\"retry_after\":1,\"count\":1}");
    int64_t start = clock_mono_ms();
    raise_alert(t, "d1", "d1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "d1", "discord"));
    assert_true(clock_mono_ms() - start >= 640); /* 0.65 s by its body; by its header it would be 1 */
    assert_int_equal(receipts(t, "d1", "discord", ST(RETRYING)), 1);
    assert_int_equal(told(t, &t->smtp, "summary of d1"), 0);
}

/* ---- TLS ---- */

static void make_certificate(const struct town *t, const char *name)
{
    char command[2048];
    snprintf(command, sizeof command,
             "cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
             "/CN=test -addext subjectAltName=IP:127.0.0.1 -keyout %s.key -out %s.pem 2>/dev/null",
             harness_dir(t->k->h), name, name);
    assert_int_equal(system(command), 0);
}

/* HTTPS by somebody else's implementation, on three ports: for all, for whoever shows the client's certificate, for all. What comes is in
 * https.log, behind the number of the port. */
static void tls_servers(const struct town *t, int ports[static 3])
{
    static const char script[] =
        "const fs = require('fs'), [dir, ...ports] = process.argv.slice(1), pem = n => fs.readFileSync(dir + n);"
        "ports.forEach((port, i) => require('https').createServer({cert: pem('/server.pem'), key: pem('/server.key'),"
        "ca: pem('/client.pem'), requestCert: i == 1, rejectUnauthorized: i == 1}, (q, a) => { let body = '';"
        "q.on('data', d => body += d); q.on('end', () => { console.log(i, q.headers['webhook-id'], body);"
        "a.end('{}'); }); }).listen(Number(port), '127.0.0.1'))";
    char text[3][16];
    for (int i = 0; i < 3; i++) {
        ports[i] = harness_free_port();
        snprintf(text[i], sizeof text[i], "%d", ports[i]);
    }
    harness_run(t->k->h, "https", ports[2],
                (const char *[]){"node", "-e", script, harness_dir(t->k->h), text[0], text[1], text[2], NULL});
}

static bool came(const struct town *t, const char *text)
{
    char path[700], all[65536];
    snprintf(path, sizeof path, "%s/https.log", harness_dir(t->k->h));
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t n = fread(all, 1, sizeof all - 1, f);
    fclose(f);
    all[n] = 0;
    return strstr(all, text) != NULL;
}

static void by_tls(void **state)
{
    struct town *t = *state;
    const char *dir = harness_dir(t->k->h);
    make_certificate(t, "server");
    make_certificate(t, "client");
    int ports[3];
    tls_servers(t, ports);
    const int any = ports[0], strict = ports[1], other = ports[2];
    snprintf(
        tls_rows, sizeof tls_rows,
        "    - { name: tls-any, type: webhook, url: \"https://127.0.0.1:%d/hook\", ca_file: %s/server.pem }\n"
        "    - { name: tls-mutual, type: webhook, url: \"https://127.0.0.1:%d/hook\", ca_file: %s/server.pem, "
        "cert_file: %s/client.pem, key_file: %s/client.key }\n"
        "    - { name: tls-wrong, type: webhook, url: \"https://127.0.0.1:%d/hook\", ca_file: %s/client.pem }\n"
        "    - { name: tls-none, type: pagerduty, token: " KEY ", url: \"https://127.0.0.1:%d/v2/enqueue\" }\n"
        "    - { name: tls-nobody, type: webhook, url: \"https://127.0.0.1:%d/hook\", ca_file: %s/server.pem }\n",
        any, dir, strict, dir, dir, dir, other, dir, other, strict, dir);
    write_web(t, "tls-any, post, record", ".");
    restart(t);
    raise_alert(t, "t1", "t1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "t1", "tls-any"));
    KIT_WAIT(t->k, came(t, "0 t1 {") && came(t, "summary of t1"));
    if (!accepts(t, "tls-mutual")) /* it shows who it is */
        fail_msg("%s", t->reply->message);
    assert_false(accepts(t, "tls-nobody"));
    /* Whose certificate is of nobody that is trusted hears nothing, by any kind. */
    assert_false(accepts(t, "tls-wrong"));
    assert_false(accepts(t, "tls-none"));
    assert_true(came(t, "\n1 test-"));
    assert_false(came(t, "\n2 ") || came(t, "tls-nobody"));
    *tls_rows = 0;
}

/* ---- templates ---- */

static void a_program_without_an_end(void **state)
{
    struct town *t = *state;
    /* The second takes all memory that there is; sanitizers do not limit that. */
    write_web(t, SANITIZED ? "program, post, record" : "program, hungry, post, record", "def f: f; f");
    restart(t);
    raise_alert(t, "e1", "e1", SEV(HIGH), false);
    /* Whoever is not that channel goes on meanwhile. */
    assert_true(accepts(t, "hook"));
    KIT_WAIT_MS(t->k, delivered(t, "e1", "post"), 60000);
    assert_int_equal(receipts(t, "e1", "hungry", ST(FAILED)), SANITIZED ? 0 : 1);
    assert_int_equal(receipts(t, "e1", "program", ST(FAILED)), 1);
    assert_int_equal(receipts(t, "e1", "program", ST(RETRYING)), 0);
    /* It is not run again at once: the answer is immediate. */
    assert_false(accepts(t, "program"));
    if (!strstr(t->reply->message, "it is not run for 60 s"))
        fail_msg("%s", t->reply->message);
    /* New settings are a new beginning; those that cannot be compiled change nothing. */
    write_web(t, "program, post, record", "{text: .title");
    kill(t->alert->pid, SIGHUP);
    KIT_WAIT(t->k, log_holds(t, "alert.channels[16].template"));
    assert_false(accepts(t, "program"));
    write_web(t, "program, post, record", "{text: .title}");
    kill(t->alert->pid, SIGHUP);
    KIT_WAIT(t->k, accepts(t, "program"));
    assert_non_null(last_on(t, "/hook/program"));
}

/* Its process is killed in between: the next alert has a new one. */
static void a_process_that_dies(void **state)
{
    struct town *t = *state;
    assert_true(accepts(t, "shaped"));
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)t->alert->pid, (int)t->alert->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        skip(); /* a kernel that does not tell */
    pid_t child = fgets(line, sizeof line, f) ? (pid_t)atoi(line) : 0;
    fclose(f);
    assert_true(child > 0);
    assert_int_equal(kill(child, SIGKILL), 0);
    /* Until the service has heard of it, it may still be asked. */
    KIT_WAIT(t->k, kill(child, 0) != 0);
    assert_true(accepts(t, "shaped"));
}

static void a_check_finds_it(void **state)
{
    struct town *t = *state;
    char command[1500];
    write_web(t, "hook, record", "{text: .title");
    snprintf(command, sizeof command, "%s -c %s --check 2>&1 | grep -q 'alert.channels\\[16\\].template'",
             bin("redoubt-alert"), t->config);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s config check %s 2>&1 | grep -q 'alert.channels\\[16\\].template'",
             bin("redoubt"), t->config);
    assert_int_equal(system(command), 0);
    write_web(t, "hook, record", "{text: .title}");
    snprintf(command, sizeof command, "%s config check %s >/dev/null", bin("redoubt"), t->config);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    /* One town for all: each test leaves the other sides well, and says what it needs of the settings. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_taken),
        cmocka_unit_test(every_failure_of_every_one),
        cmocka_unit_test(pagerduty_opens_and_closes),
        cmocka_unit_test(the_same_id_at_each_attempt),
        cmocka_unit_test(discord_says_how_long_to_wait),
        cmocka_unit_test(by_tls),
        cmocka_unit_test(a_program_without_an_end),
        cmocka_unit_test(a_process_that_dies),
        cmocka_unit_test(a_check_finds_it),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, web_setup, web_teardown);
}
