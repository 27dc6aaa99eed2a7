/* test_client_example.c - the example agent: builds without a warning, and does what its comments say. The test plays suite and LLM. */
#include "../harness.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define AGENT "mcp"

struct env {
    struct harness *h;
    struct harness_proc *nats;
    struct loop loop;
    struct bus *bus;
    bool up, closed, stored;
    char program[600];
    int llm_fd, llm_port;
    pthread_t llm;
    _Atomic bool llm_stop;
    uint64_t ack_epoch;
    int actions, decisions, monitors, answers;
    char action[256], decision[128], monitor[512], answer[256];
};

/* ---- an LLM that sees threats everywhere ---- */

static void *llm_main(void *arg)
{
    struct env *v = arg;
    static const char body[] = "{\"choices\":[{\"message\":{\"content\":\"block\"}}]}";
    char in[4096], out[512];
    int len = snprintf(out, sizeof out,
                       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: "
                       "close\r\n\r\n%s",
                       sizeof body - 1, body);
    while (!atomic_load(&v->llm_stop)) {
        struct pollfd p = {.fd = v->llm_fd, .events = POLLIN};
        if (poll(&p, 1, 50) <= 0)
            continue;
        int fd = accept(v->llm_fd, NULL, NULL);
        size_t n = 0;
        ssize_t got;
        while (fd >= 0 && n < sizeof in - 1 && (got = read(fd, in + n, sizeof in - 1 - n)) > 0) {
            n += (size_t)got;
            in[n] = 0;
            if (strstr(in, "}]}"))
                break; /* the end of the body */
        }
        if (fd >= 0 && write(fd, out, (size_t)len) < 0)
            perror("llm");
        if (fd >= 0)
            close(fd);
    }
    return NULL;
}

/* ---- the suite's side ---- */

static void on_ack(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(DirectiveAck) *a = wire_unpack(PB_DESC(directive_ack), m->data, m->len, NULL);
    assert_non_null(a);
    v->ack_epoch = a->epoch;
    wire_free(a);
}

static void on_action(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    size_t len;
    PB(ActionRequest) *q = wire_unpack(PB_DESC(action_request), m->data, m->len, NULL);
    assert_true(q && q->n_parameters == 1);
    snprintf(v->action, sizeof v->action, "%s %s=%s %" PRIu64, q->action, q->parameters[0]->key,
             q->parameters[0]->value, q->epoch);
    v->actions++;
    PB(ActionReply) a = REDOUBT__V1__ACTION_REPLY__INIT;
    a.idempotency_key = q->idempotency_key;
    /* The first one is refused: that is evidence, too. */
    a.decision = v->actions == 1 ? REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_REFUSED
                                 : REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_FORWARDED;
    a.refusal = v->actions == 1 ? REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_NOT_ALLOWED
                                : REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_UNSPECIFIED;
    void *data = wire_pack(&a, &len, NULL);
    bus_publish(v->bus, &(struct bus_out){.subject = m->reply, .type = wire_type(&a), .data = data, .len = len},
                NULL);
    free(data);
    wire_free(q);
}

static void on_decision(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    if (m->type && strcmp(m->type, "redoubt.v1.Decision") != 0)
        return; /* one that waited with others */
    PB(Decision) *d = wire_unpack(PB_DESC(decision), m->data, m->len, NULL);
    assert_non_null(d);
    snprintf(v->decision, sizeof v->decision, "%s %s %d", d->verdict, d->action, (int)d->outcome);
    v->decisions++;
    wire_free(d);
}

static void on_monitor(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(MonitorReport) *r = wire_unpack(PB_DESC(monitor_report), m->data, m->len, NULL);
    assert_non_null(r);
    size_t n = 0;
    for (size_t i = 0; i < r->n_checks && n < 400; i++)
        n += (size_t)snprintf(v->monitor + n, sizeof v->monitor - n, "%s=%d (%s) ", r->checks[i]->name,
                              r->checks[i]->ok, r->checks[i]->detail);
    v->monitors++;
    wire_free(r);
}

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct env *v = ctx;
    v->answers++;
    PB(SelftestAnswer) *a = st == BUS_OK ? wire_unpack(PB_DESC(selftest_answer), m->data, m->len, NULL) : NULL;
    snprintf(v->answer, sizeof v->answer, "%s", a ? a->answer_json : bus_status_text(st));
    wire_free(a);
}

static void on_up(void *ctx)
{
    ((struct env *)ctx)->up = true;
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    assert_int_equal(r->status, BUS_OK);
    ((struct env *)ctx)->stored = true;
}

#define UNTIL(v, expr)                                                                                               \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + 2 * HARNESS_WAIT_MS;                                                        \
        bool never_ = false;                                                                                         \
        while (!(expr)) {                                                                                            \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain: %s", #expr);                                                               \
            (void)loop_run_until(&(v)->loop, &never_, 10);                                                           \
        }                                                                                                            \
    } while (0)

/* As its Makefile does, with this build's library, and every warning an error. */
static void build(struct env *v)
{
    char self[400], line[2400], flags[128] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    const char *san = strstr(self, "/san-");
    if (san) { /* .../build/san-address-undefined */
        snprintf(flags, sizeof flags, "-fsanitize=%s", san + 5);
        for (char *c = flags + strlen("-fsanitize="); *c; c++)
            if (*c == '-')
                *c = ',';
    }
    snprintf(v->program, sizeof v->program, "%s/agent", harness_dir(v->h));
    const char *cc = getenv("CC");
    snprintf(line, sizeof line,
             "%s -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 %s deploy/examples/agent-c/agent.c "
             "-Iservices/client %s/lib/libredoubt.a $(pkg-config --cflags --libs libnats libprotobuf-c libuv jansson "
             "libsodium libcurl) -pthread -o %s",
             cc && *cc ? cc : "cc", flags, self, v->program);
    assert_int_equal(system(line), 0);
}

static int set_up(void **state)
{
    struct env *v = calloc(1, sizeof *v);
    struct err e = {""};
    signal(SIGPIPE, SIG_IGN);
    v->h = harness_open();
    v->nats = harness_nats(v->h, "nats", NULL);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    v->llm_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(bind(v->llm_fd, (struct sockaddr *)&a, len) == 0 && listen(v->llm_fd, 16) == 0 &&
                getsockname(v->llm_fd, (struct sockaddr *)&a, &len) == 0);
    v->llm_port = ntohs(a.sin_port);
    pthread_create(&v->llm, NULL, llm_main, v);
    loop_init(&v->loop);
    v->bus = bus_open(
        &v->loop, &(struct bus_opts){.url = v->nats->url, .inbox_prefix = "_INBOX_suite", .on_up = on_up, .ctx = v},
        &e);
    assert_non_null(v->bus);
    assert_non_null(bus_subscribe(v->bus, SUBJECT_ACK ">", NULL, on_ack, v));
    assert_non_null(bus_subscribe(v->bus, SUBJECT_ACTION ">", NULL, on_action, v));
    assert_non_null(bus_subscribe(v->bus, SUBJECT_DECISION ">", NULL, on_decision, v));
    assert_non_null(bus_subscribe(v->bus, SUBJECT_MONITOR ">", NULL, on_monitor, v));
    assert_true(loop_run_until(&v->loop, &v->up, HARNESS_WAIT_MS));
    build(v);
    *state = v;
    return 0;
}

static int tear_down(void **state)
{
    struct env *v = *state;
    atomic_store(&v->llm_stop, true);
    pthread_join(v->llm, NULL);
    close(v->llm_fd);
    bus_close(v->bus, 1000, set_true, &v->closed);
    assert_true(loop_run_until(&v->loop, &v->closed, HARNESS_WAIT_MS));
    loop_done(&v->loop);
    harness_close(v->h);
    free(v);
    return 0;
}

static void direct(struct env *v, uint64_t epoch, PB(Posture) posture, unsigned load, bool restart)
{
    char id[64];
    size_t len;
    struct err e = {""};
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    PB(Directive) d = REDOUBT__V1__DIRECTIVE__INIT;
    s.agent = AGENT;
    s.epoch = epoch;
    s.posture = posture;
    s.llm_target = "llm.a";
    s.llm_model = "m";
    s.automation = REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED;
    s.load_percent = load;
    s.restart_requested = restart;
    s.monitor_interval_ms = posture == REDOUBT__V1__POSTURE__POSTURE_DEGRADED ? 300 : 0;
    d.state = &s;
    d.step = restart ? REDOUBT__V1__STEP__STEP_REQUEST_RESTART : REDOUBT__V1__STEP__STEP_INITIAL;
    snprintf(id, sizeof id, "directive/" AGENT "/%" PRIu64, epoch);
    void *data = wire_pack(&d, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    v->stored = false;
    bus_store(v->bus,
              &(struct bus_out){
                  .subject = SUBJECT_DIRECTIVE AGENT, .id = id, .type = wire_type(&d), .data = data, .len = len},
              HARNESS_WAIT_MS, on_stored, v);
    free(data);
    UNTIL(v, v->stored && v->ack_epoch == epoch);
}

static void write_log(struct env *v, const char *how, int failed)
{
    char path[600];
    snprintf(path, sizeof path, "%s/auth.log", harness_dir(v->h));
    FILE *f = fopen(path, how);
    for (int i = 0; i < failed; i++)
        fprintf(f, "sshd[7]: Failed password for root from 203.0.113.7 port %d ssh2\nsshd[7]: Accepted key\n", i);
    fclose(f);
}

static bool printed(struct env *v, const char *what, int times)
{
    char path[600], line[1024];
    int n = 0;
    snprintf(path, sizeof path, "%s/agent.log", harness_dir(v->h));
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, what) != NULL;
    if (f)
        fclose(f);
    return n >= times;
}

static void the_example_agent(void **state)
{
    struct env *v = *state;
    char llm[64], log[600];
    snprintf(llm, sizeof llm, "llm.a=http://127.0.0.1:%d/v1", v->llm_port);
    snprintf(log, sizeof log, "log=%s/auth.log", harness_dir(v->h));
    write_log(v, "w", 3);
    struct harness_proc *p =
        harness_run(v->h, "agent", 0, (const char *const[]){v->program, v->nats->url, AGENT, llm, log, NULL});
    direct(v, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL, 100, false);
    /* It acts through the guard; what becomes of it is told with the decision. */
    UNTIL(v, v->actions >= 1 && v->decisions >= 1);
    assert_string_equal(v->action, "block_ip ip=192.0.2.7 1");
    UNTIL(v, strcmp(v->decision, "malicious block_ip 2") == 0 || v->actions >= 2);
    UNTIL(v, v->actions >= 2 && strcmp(v->decision, "malicious block_ip 1") == 0);
    UNTIL(v, printed(v, "is refused: NOT_ALLOWED", 1) && printed(v, "; blocked", 1));
    /* A self-test is answered by the same judgement, and nothing is done. */
    PB(SelftestQuestion) q = REDOUBT__V1__SELFTEST_QUESTION__INIT;
    size_t len;
    q.agent = AGENT;
    q.id = "q1";
    q.name = "one";
    q.event_json = "{\"event\": \"40 failed logins\"}";
    q.answer_by_unix_ms = clock_wall_ms() + 9000;
    void *data = wire_pack(&q, &len, NULL);
    bus_request(v->bus,
                &(struct bus_out){.subject = SUBJECT_SELFTEST AGENT, .type = wire_type(&q), .data = data, .len = len},
                9000, on_answer, v);
    free(data);
    UNTIL(v, v->answers == 1);
    assert_string_equal(v->answer, "{\"verdict\": \"malicious\"}");
    /* Degraded: its own health, and the log: first three failed logins, later many. */
    direct(v, 2, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, 100, false);
    UNTIL(v, v->monitors >= 1);
    assert_non_null(strstr(v->monitor, "memory=1 ("));
    assert_non_null(strstr(v->monitor, "disk="));
    write_log(v, "a", 20);
    UNTIL(v, strstr(v->monitor, "auth_log=0 (20 failed logins since the last look)") != NULL);
    UNTIL(v, strstr(v->monitor, "auth_log=1 (0 failed logins since the last look)") != NULL);
    /* It begins anew when asked to, and is the same agent. */
    pid_t pid = p->pid;
    direct(v, 3, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, 100, true);
    UNTIL(v, printed(v, "asks for a restart", 1));
    v->ack_epoch = 0;
    UNTIL(v, v->ack_epoch == 3); /* by the new process, which does not restart again */
    assert_true(harness_alive(p) && p->pid == pid);
    /* Load is shed; frozen, it watches. */
    direct(v, 4, REDOUBT__V1__POSTURE__POSTURE_RECOVERING, 1, false);
    UNTIL(v, printed(v, "not taken on", 2));
    direct(v, 5, REDOUBT__V1__POSTURE__POSTURE_FROZEN, 100, false);
    int before = v->actions;
    UNTIL(v, printed(v, "watching only, no automated action", 2));
    assert_int_equal(v->actions, before);
    assert_int_equal(harness_stop(p), 0);
    assert_false(printed(v, "asks for a restart", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(the_example_agent, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
