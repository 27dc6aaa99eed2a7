/* test_common_order.c - orders find the replica that acts, whichever takes them, on a real NATS server: two replicas of a small service, the test
 * program itself started again. Each acts for one agent. */
#include "bus_kit.h"

#include "common/order.h"
#include "common/wire.h"
#include <signal.h>
#include <unistd.h>

#define ACTS        SUBJECT_CMD "errand.leader."
#define OK          REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define PATIENCE_MS 300
#define LONG_MS     30000
#define EPOCH       7
#define TIMES       40 /* one of two replicas takes each: no way goes unseen */

/* ---- the service: acts for one agent, and knows of another by hearsay ---- */

static const char *acts_for;

static void nobody_acts(struct service *s, const void *message, const struct bus_msg *m);
static const struct order_way way = {
    .any = SUBJECT_CMD "errand.", .acts = ACTS, .desc = PB_DESC(agent_command), .nobody = nobody_acts};

static const char *verb_of(const struct bus_msg *m)
{
    const char *verb = order_verb(&way, m);
    return verb && (strcmp(verb, "run") == 0 || strcmp(verb, "wait") == 0) ? verb : NULL;
}

static void nobody_acts(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AgentCommand) *c = message;
    if (strcmp(c->agent, "known") == 0)
        service_reply(s, m->reply, OK, 0, "%s, by %s: that was long ago", verb_of(m), c->by);
    else
        order_unheard(s, m->reply, c->agent);
}

static void act(struct service *s, const PB(AgentCommand) * c, const struct bus_msg *m)
{
    service_reply(s, m->reply, OK, EPOCH, "%s: %s, by %s", c->agent, verb_of(m), c->by);
}

static void cmd_any(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AgentCommand) *c = message;
    const char *verb = verb_of(m);
    if (!order_fit(s, &way, m, verb))
        return;
    if (strcmp(c->agent, acts_for) == 0)
        act(s, c, m);
    else
        order_pass_on(s, &way, verb, strcmp(verb, "wait") == 0 ? LONG_MS : PATIENCE_MS, m);
}

static void cmd_acts(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AgentCommand) *c = message;
    if (order_fit(s, &way, m, verb_of(m)) && strcmp(c->agent, acts_for) == 0)
        act(s, c, m);
}

static int start(struct service *s, struct err *e)
{
    (void)e;
    s->state = &acts_for;
    return 0;
}

static void drain(struct service *s)
{
    service_drained(s);
}

static void stop(struct service *s)
{
    s->state = NULL;
}

static int errand_main(int argc, char **argv)
{
    static const struct service_sub subs[] = {{ACTS "*", SERVICE_SUB_ALL, PB_DESC(agent_command), cmd_acts}};
    static const struct service_cmd cmds[] = {{"run", PB_DESC(agent_command), cmd_any},
                                              {"wait", PB_DESC(agent_command), cmd_any}};
    static const struct service_desc desc = {.name = "errand",
                                             .description = "runs errands",
                                             SERVICE_TABLE(subs),
                                             SERVICE_TABLE(cmds),
                                             .start = start,
                                             .drain = drain,
                                             .stop = stop};
    return service_main(argc, argv, &desc);
}

/* ---- the test ---- */

static struct {
    struct kit *k;
    struct kit_bus bus;
    struct harness_proc *replica[2];
    struct kit_box passed; /* what goes to whoever acts */
    char config[600];
} T;

static int set_up(void **state)
{
    static const char *const agents[] = {"left", "right"};
    char self[512] = "";
    if (kit_setup(state))
        return -1;
    T.k = *state;
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    harness_start(T.k->nats);
    snprintf(T.config, sizeof T.config, "%s/errand.yaml", harness_dir(T.k->h));
    FILE *f = fopen(T.config, "w");
    assert_non_null(f);
    fprintf(f, "nats: { url: \"%s\" }\ndata_dir: %s/data\n", T.k->nats->url, harness_dir(T.k->h));
    fclose(f);
    kit_open_up(T.k, &T.bus);
    T.passed = (struct kit_box){0};
    bus_subscribe(T.bus.b, ACTS "*", NULL, kit_box, &T.passed);
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {self, "--errand", agents[i], "-c", T.config, NULL};
        T.replica[i] = harness_run(T.k->h, agents[i], 0, argv);
    }
    return 0;
}

static int tear_down(void **state)
{
    kit_close(&T.bus);
    return kit_teardown(state);
}

static struct bus_out order(const char *subject, const char *agent, size_t *ret_len)
{
    struct err e = {""};
    PB(AgentCommand) c = REDOUBT__V1__AGENT_COMMAND__INIT;
    c.agent = (char *)(uintptr_t)agent;
    c.by = "ann";
    c.reason = "a test";
    void *data = wire_pack(&c, ret_len, &e);
    if (!data)
        fail_msg("%s", e.text);
    return (struct bus_out){.subject = subject, .type = wire_type(&c), .data = data, .len = *ret_len};
}

struct told {
    bool came;
    enum bus_status st;
    int status;
    uint64_t epoch;
    char text[256];
};

static void on_told(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct told *t = ctx;
    t->came = true;
    t->st = st;
    if (st != BUS_OK)
        return;
    assert_string_equal(m->type, "redoubt.v1.CommandReply");
    PB(CommandReply) *r = wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL);
    assert_non_null(r);
    t->status = (int)r->status;
    t->epoch = r->epoch;
    snprintf(t->text, sizeof t->text, "%s", r->message);
    wire_free(r);
}

static void ask(const char *verb, const char *agent, struct told *t)
{
    char subject[128];
    size_t len;
    snprintf(subject, sizeof subject, SUBJECT_CMD "errand.%s", verb);
    struct bus_out o = order(subject, agent, &len);
    *t = (struct told){0};
    bus_request(T.bus.b, &o, HARNESS_WAIT_MS, on_told, t);
    free((void *)(uintptr_t)o.data);
}

static struct told told(const char *verb, const char *agent)
{
    struct told t;
    do { /* the replicas start */
        ask(verb, agent, &t);
        KIT_WAIT_MS(T.k, t.came, 2 * HARNESS_WAIT_MS);
    } while (t.st == BUS_NO_RESPONDERS);
    assert_int_equal(t.st, BUS_OK);
    return t;
}

/* Both replicas are there when either's agent is answered for, whoever took the order. */
static void both_up(void)
{
    KIT_WAIT(T.k, told("run", "left").status == OK && told("run", "right").status == OK);
}

static void who_acts_answers_whoever_takes_it(void **state)
{
    (void)state;
    both_up();
    T.passed.n = 0;
    for (int i = 0; i < TIMES; i++) {
        struct told t = told("run", i % 2 ? "left" : "right");
        assert_int_equal(t.status, OK);
        assert_int_equal(t.epoch, EPOCH);
        assert_string_equal(t.text, i % 2 ? "left: run, by ann" : "right: run, by ann");
    }
    assert_in_range(T.passed.n, 1, TIMES - 1); /* some were passed on, each once */
    assert_string_equal(T.passed.subject, ACTS "run");
    assert_string_equal(T.passed.type, "redoubt.v1.AgentCommand");
}

static void where_nobody_acts_that_is_said(void **state)
{
    (void)state;
    both_up();
    int64_t began = clock_mono_ms();
    struct told t = told("run", "nowhere");
    assert_true(clock_mono_ms() - began >= PATIENCE_MS);
    assert_int_equal(t.status, UNAVAILABLE);
    assert_string_equal(
        t.text,
        "no replica of errand acts for nowhere at the moment: is the shared state (Redis) reachable? try again");
    /* Who took it may know something by itself: it has the order as it came. */
    t = told("run", "known");
    assert_int_equal(t.status, OK);
    assert_string_equal(t.text, "run, by ann: that was long ago");
}

/* One of the two ends: its agent has nobody, the other one is answered for. */
static void one_is_gone(void **state)
{
    (void)state;
    both_up();
    harness_kill(T.replica[0]);
    assert_int_equal(told("run", "right").status, OK);
    assert_int_equal(told("run", "left").status, UNAVAILABLE);
}

static void what_cannot_be_answered_is_dropped(void **state)
{
    (void)state;
    static const struct {
        const char *subject;
        size_t reply; /* its length; 0 = none */
        bool answered;
    } rows[] = {
        {SUBJECT_CMD "errand.run", ORDER_REPLY - 1, true},
        {SUBJECT_CMD "errand.run", ORDER_REPLY, false},
        {ACTS "run", ORDER_REPLY - 1, true},
        {ACTS "run", ORDER_REPLY, false},
        {ACTS "dance", 20, false},
        {ACTS "run", 0, false},
    };
    both_up();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kit_box box = {0};
        char reply[ORDER_REPLY + 1] = "";
        size_t len;
        memset(reply, 'r', rows[i].reply);
        struct bus_sub *sub = rows[i].reply ? bus_subscribe(T.bus.b, reply, NULL, kit_box, &box) : NULL;
        struct bus_out o = order(rows[i].subject, "left", &len);
        o.reply = rows[i].reply ? reply : NULL;
        for (int k = 0; k < TIMES; k++)
            assert_int_equal(bus_publish(T.bus.b, &o, NULL), 0);
        free((void *)(uintptr_t)o.data);
        if (rows[i].answered)
            KIT_WAIT(T.k, box.n == TIMES);
        assert_int_equal(told("run", "left").status, OK); /* after them all */
        assert_int_equal(told("run", "right").status, OK);
        assert_int_equal(box.n, rows[i].answered ? TIMES : 0);
        bus_unsubscribe(sub);
    }
}

/* What is passed on when the service ends is let go of. */
static void the_end_comes_between(void **state)
{
    (void)state;
    static struct told t[TIMES]; /* until the test's bus is closed */
    both_up();
    T.passed.n = 0;
    for (int i = 0; i < TIMES; i++)
        ask("wait", "nowhere", &t[i]);
    KIT_WAIT(T.k, T.passed.n == TIMES);
    assert_int_equal(harness_stop(T.replica[0]), 0);
    assert_int_equal(harness_stop(T.replica[1]), 0);
    for (int i = 0; i < TIMES; i++)
        assert_false(t[i].came && t[i].st == BUS_OK);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--errand") == 0) {
        acts_for = argv[2];
        argv[2] = argv[0];
        return errand_main(argc - 2, argv + 2);
    }
#define T_(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T_(who_acts_answers_whoever_takes_it),  T_(where_nobody_acts_that_is_said), T_(one_is_gone),
        T_(what_cannot_be_answered_is_dropped), T_(the_end_comes_between),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
