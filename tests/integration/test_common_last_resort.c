/* test_common_last_resort.c - alerts that cannot be handed to the alert service: the file, the signed call, and when. */
#include "bus_kit.h"
#include "common/http.h"
#include "common/last_resort.h"
#include "common/notify_impl.h"
#include "common/webhook_sign.h"
#include <jansson.h>
#include <microhttpd.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

/* A webhook in a thread of its own, which says what it is told to say. */
struct hook {
    struct MHD_Daemon *daemon;
    int port;
    _Atomic int calls, signed_, status, fail_first; /* so many calls get 500 first */
    _Atomic bool hangs;
    pthread_mutex_t lock;
    char last[8192], id[128];
    size_t len;
    struct webhook_key key;
};
struct place {
    struct kit *k;
    struct kit_bus kb;
    struct service s;
    struct service_desc desc;
    struct settings set;
    struct hook hook;
    char url[64], dir[600];
    bool closed;
};

struct body {
    char text[8192];
    size_t len;
};

static enum MHD_Result on_call(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                               const char *version, const char *data, size_t *size, void **state)
{
    struct hook *h = ctx;
    struct body *b = *state;
    (void)url;
    (void)version;
    if (!b) {
        *state = calloc(1, sizeof *b);
        return MHD_YES;
    }
    if (*size) {
        if (b->len + *size < sizeof b->text)
            memcpy(b->text + b->len, data, *size);
        b->len += *size;
        *size = 0;
        return MHD_YES;
    }
    while (atomic_load(&h->hangs))
        usleep(5000);
    const char *id = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "webhook-id");
    const char *time = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "webhook-timestamp");
    const char *sign = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "webhook-signature");
    bool good = id && time && sign && strcmp(method, "POST") == 0 &&
                webhook_signed(&h->key, id, strtoll(time, NULL, 10), b->text, b->len, sign);
    pthread_mutex_lock(&h->lock);
    snprintf(h->last, sizeof h->last, "%.*s", (int)b->len, b->text);
    snprintf(h->id, sizeof h->id, "%s", id ? id : "");
    pthread_mutex_unlock(&h->lock);
    atomic_fetch_add(&h->signed_, good);
    int n = atomic_fetch_add(&h->calls, 1);
    unsigned status = n < atomic_load(&h->fail_first) ? 500 : (unsigned)atomic_load(&h->status);
    struct MHD_Response *r = MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    free(b);
    *state = NULL;
    return ok;
}

static void on_over(void *ctx, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    (void)ctx;
    (void)c;
    (void)why;
    free(*state);
}

static int set_up(void **state)
{
    void *kit;
    if (kit_setup(&kit))
        return -1;
    struct place *p = calloc(1, sizeof *p);
    p->k = kit;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    struct err e;
    assert_int_equal(webhook_key_read(SECRET, &p->hook.key, &e), 0);
    pthread_mutex_init(&p->hook.lock, NULL);
    p->hook.port = harness_free_port();
    p->hook.status = 204;
    p->hook.daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, (uint16_t)p->hook.port,
                         NULL, NULL, on_call, &p->hook, MHD_OPTION_NOTIFY_COMPLETED, on_over, NULL, MHD_OPTION_END);
    assert_non_null(p->hook.daemon);
    snprintf(p->url, sizeof p->url, "http://127.0.0.1:%d/last", p->hook.port);
    snprintf(p->dir, sizeof p->dir, "%s/replica", harness_dir(p->k->h));
    assert_int_equal(mkdir(p->dir, 0700), 0);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    atomic_store(&p->hook.hangs, false);
    MHD_stop_daemon(p->hook.daemon);
    void *kit = p->k;
    pthread_mutex_destroy(&p->hook.lock);
    free(p);
    return kit_teardown(&kit);
}

static char *file_text(const struct place *p, const char *name)
{
    static char text[8 << 20];
    char path[700];
    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return text;
}

static size_t lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* ---- the last resort by itself ---- */

static void tell(struct last_resort *x, const struct place *p, const char *id, bool calls)
{
    last_resort_tell(x, &(struct last_resort_alert){.id = id,
                                                    .alert = "{\"summary\":\"x\"}",
                                                    .service = "test",
                                                    .instance = "test-0",
                                                    .why = "because",
                                                    .url = calls ? p->url : "",
                                                    .secret = calls ? SECRET : ""});
}

static void shut(struct place *p, struct last_resort *x)
{
    p->closed = false;
    last_resort_close(x, 1000, kit_closed, &p->kb);
    p->kb.k = p->k;
    KIT_WAIT(p->k, p->kb.closed);
    p->k->open++; /* kit_closed counts buses */
    p->kb.closed = false;
}

static void a_line_and_a_call(void **state)
{
    struct place *p = *state;
    struct last_resort *x = last_resort_open(&p->k->loop, p->dir);
    tell(x, p, "a1", true);
    KIT_WAIT(p->k, atomic_load(&p->hook.calls) == 1 && lines(file_text(p, LAST_RESORT_FILE)) == 1);
    assert_int_equal(atomic_load(&p->hook.signed_), 1);
    assert_string_equal(p->hook.id, "a1");
    json_t *line = json_loads(file_text(p, LAST_RESORT_FILE), 0, NULL), *body = json_loads(p->hook.last, 0, NULL);
    assert_true(json_equal(line, body));
    assert_string_equal(json_string_value(json_object_get(line, "service")), "test");
    assert_string_equal(json_string_value(json_object_get(line, "why")), "because");
    assert_string_equal(json_string_value(json_object_get(json_object_get(line, "alert"), "summary")), "x");
    json_decref(line);
    json_decref(body);
    /* 500 and silence are tried again, what is refused is not. */
    atomic_store(&p->hook.fail_first, 2); /* the second call gets 500 */
    tell(x, p, "a2", true);
    KIT_WAIT(p->k, atomic_load(&p->hook.calls) == 3);
    assert_string_equal(p->hook.id, "a2");
    KIT_WAIT(p->k, kit_metric("redoubt_last_resort_calls_total") == 2);
    atomic_store(&p->hook.status, 403);
    tell(x, p, "a3", true);
    KIT_WAIT(p->k,
             kit_metric("redoubt_last_resort_uncalled_total") == 1 && lines(file_text(p, LAST_RESORT_FILE)) == 3);
    shut(p, x);
    assert_int_equal(atomic_load(&p->hook.calls), 4);
}

static void three_tries(void **state)
{
    struct place *p = *state;
    struct last_resort *x = last_resort_open(&p->k->loop, p->dir);
    atomic_store(&p->hook.status, 503);
    int64_t before = kit_metric("redoubt_last_resort_uncalled_total");
    tell(x, p, "t1", true);
    KIT_WAIT(p->k, kit_metric("redoubt_last_resort_uncalled_total") == before + 1);
    assert_int_equal(atomic_load(&p->hook.calls), LAST_RESORT_TRIES);
    shut(p, x);
}

static void a_hook_that_hangs_delays_nobody(void **state)
{
    struct place *p = *state;
    struct last_resort *x = last_resort_open(&p->k->loop, p->dir);
    atomic_store(&p->hook.hangs, true);
    int64_t before = kit_metric("redoubt_last_resort_uncalled_total"), start = clock_mono_ms();
    enum { N = LAST_RESORT_POSTS_MAX + 50 };
    for (int i = 0; i < N; i++) {
        char id[16];
        snprintf(id, sizeof id, "h%d", i);
        tell(x, p, id, true);
    }
    assert_true(clock_mono_ms() - start < 3000);
    KIT_WAIT(p->k, lines(file_text(p, LAST_RESORT_FILE)) == N); /* the file has them all */
    assert_int_equal(kit_metric("redoubt_last_resort_uncalled_total"), before + 50);
    start = clock_mono_ms();
    shut(p, x); /* and it ends in time */
    assert_true(clock_mono_ms() - start < 6000);
    assert_int_equal(kit_metric("redoubt_last_resort_uncalled_total"), before + N);
    atomic_store(&p->hook.hangs, false);
}

static void files_that_fail_and_that_are_full(void **state)
{
    struct place *p = *state;
    char path[700], before[700];
    snprintf(path, sizeof path, "%s/%s", p->dir, LAST_RESORT_FILE);
    snprintf(before, sizeof before, "%s.1", path);
    struct last_resort *x = last_resort_open(&p->k->loop, p->dir);
    /* A FIFO in its place: not written, and nobody waits. The call is made all the same. */
    assert_int_equal(mkfifo(path, 0600), 0);
    int64_t unwritten = kit_metric("redoubt_last_resort_unwritten_total");
    tell(x, p, "f1", true);
    KIT_WAIT(p->k,
             kit_metric("redoubt_last_resort_unwritten_total") == unwritten + 1 && atomic_load(&p->hook.calls) == 1);
    assert_int_equal(unlink(path), 0);
    /* Its end was cut short: the next line is whole. */
    FILE *f = fopen(path, "we");
    fputs("{\"torn", f);
    fclose(f);
    tell(x, p, "f2", false);
    KIT_WAIT(p->k, lines(file_text(p, LAST_RESORT_FILE)) == 2);
    assert_memory_equal(file_text(p, LAST_RESORT_FILE), "{\"torn\n{\"at\"", 12);
    /* Full: it becomes .1, and the one before goes. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(truncate(path, LAST_RESORT_FILE_MAX), 0);
        tell(x, p, i ? "f4" : "f3", false);
        struct stat st;
        KIT_WAIT(p->k, lines(file_text(p, LAST_RESORT_FILE)) == 1 &&
                           strstr(file_text(p, LAST_RESORT_FILE), i ? "\"f4\"" : "\"f3\""));
        assert_int_equal(stat(before, &st), 0);
        assert_int_equal(st.st_size, LAST_RESORT_FILE_MAX);
    }
    shut(p, x);
}

/* ---- by way of a service ---- */

static void on_durable(void *ctx, int status, const char *error)
{
    (void)error;
    *(int *)ctx = status == 0 ? 1 : -1;
}

static void raise_one(struct place *p, const char *id, int *ret)
{
    PB(Alert) a = PB_INIT(ALERT);
    a.id = (char *)id;
    a.dedup_key = (char *)"test/x";
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.summary = (char *)"größer";
    *ret = 0;
    service_alert_durable(&p->s, &a, on_durable, ret);
}

/* The parts of a service that alerts go through; NATS is not there yet. */
static void service_up(struct place *p, size_t outbox_bytes)
{
    struct err e;
    p->desc = (struct service_desc){.name = "test", .needs = SERVICE_OUTBOX};
    p->s = (struct service){.desc = &p->desc, .settings = &p->set, .instance = "test-0"};
    snprintf(p->s.boot_id, sizeof p->s.boot_id, "0123456789abcdef");
    snprintf(p->s.replica.dir, sizeof p->s.replica.dir, "%s", p->dir);
    p->set.alert.last_resort = (struct set_last_resort){.url = p->url, .secret = (char *)SECRET, .after_ms = 1000};
    assert_int_equal(loop_init(&p->s.loop), 0);
    struct bus_opts o = {.url = p->k->nats->url, .name = "test", .inbox_prefix = "_INBOX_test"};
    assert_non_null(p->s.bus = bus_open(&p->s.loop, &o, &e));
    struct outbox_opts oo = {.dir = p->dir, .max_bytes = outbox_bytes, .bus = p->s.bus};
    assert_non_null(p->s.outbox = outbox_open(&p->s.loop, &oo, &e));
    assert_non_null(p->s.alerts = notify_alerts_open(&p->s));
}

static void turn(struct place *p)
{
    bool never = false;
    (void)loop_run_until(&p->s.loop, &never, 2);
}

#define SERVICE_WAIT(p, cond)                                                                                        \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + HARNESS_WAIT_MS;                                                         \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() >= end_ms_)                                                                          \
                fail_msg("waited in vain for: %s", #cond);                                                           \
            turn(p);                                                                                                 \
        }                                                                                                            \
    } while (0)

static void on_part_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void service_down(struct place *p)
{
    bool outbox = false, alerts = false, bus = false;
    outbox_close(p->s.outbox, 200, on_part_closed, &outbox);
    SERVICE_WAIT(p, outbox);
    notify_alerts_close(p->s.alerts, on_part_closed, &alerts);
    SERVICE_WAIT(p, alerts);
    bus_close(p->s.bus, 500, on_part_closed, &bus);
    SERVICE_WAIT(p, bus);
    loop_done(&p->s.loop);
}

static void when_the_bus_is_away(void **state)
{
    struct place *p = *state;
    int durable;
    service_up(p, 0);
    raise_one(p, "s1", &durable);
    SERVICE_WAIT(p, durable == 1);
    assert_string_equal(file_text(p, LAST_RESORT_FILE), ""); /* its time is not over */
    SERVICE_WAIT(p, atomic_load(&p->hook.calls) == 1);
    SERVICE_WAIT(p, lines(file_text(p, LAST_RESORT_FILE)) == 1);
    assert_string_equal(p->hook.id, "s1");
    assert_non_null(strstr(p->hook.last, "the bus has not taken it in time"));
    assert_non_null(strstr(p->hook.last, "größer"));
    assert_int_equal(atomic_load(&p->hook.signed_), 1);
    /* The bus comes: it goes its normal way as well, under its id, and what comes after it only that way. */
    harness_start(p->k->nats);
    SERVICE_WAIT(p, bus_up(p->s.bus) && outbox_backlog(p->s.outbox) == 0);
    raise_one(p, "s2", &durable);
    SERVICE_WAIT(p, outbox_backlog(p->s.outbox) == 0 && durable == 1);
    kit_open_up(p->k, &p->kb);
    struct kit_answer a;
    kit_ask(&p->kb, &a, "$JS.API.STREAM.INFO." STREAM_ALERTS, "");
    assert_int_equal(kit_number(a.data, "messages"), 2);
    int64_t past = clock_mono_ms() + 1300; /* longer than `after` */
    SERVICE_WAIT(p, clock_mono_ms() > past);
    assert_int_equal(atomic_load(&p->hook.calls), 1);
    kit_close(&p->kb);
    service_down(p);
    assert_int_equal(lines(file_text(p, LAST_RESORT_FILE)), 1);
}

static void when_the_outbox_refuses(void **state)
{
    struct place *p = *state;
    int durable;
    service_up(p, 100); /* bytes: too few for any */
    raise_one(p, "o1", &durable);
    SERVICE_WAIT(p, durable == -1);
    SERVICE_WAIT(p, atomic_load(&p->hook.calls) == 1 && lines(file_text(p, LAST_RESORT_FILE)) == 1);
    assert_non_null(strstr(p->hook.last, "the outbox is full"));
    harness_start(p->k->nats); /* the bus gets it directly */
    SERVICE_WAIT(p, bus_up(p->s.bus));
    kit_open_up(p->k, &p->kb);
    struct kit_answer a;
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    do {
        turn(p);
        kit_ask(&p->kb, &a, "$JS.API.STREAM.INFO." STREAM_ALERTS, "");
    } while (kit_number(a.data, "messages") < 1 && clock_mono_ms() < end);
    assert_int_equal(kit_number(a.data, "messages"), 1);
    kit_close(&p->kb);
    service_down(p);
    assert_int_equal(atomic_load(&p->hook.calls), 1);
}

static void when_the_service_ends_first(void **state)
{
    struct place *p = *state;
    int durable;
    service_up(p, 0);
    p->set.alert.last_resort.after_ms = 3600000;
    raise_one(p, "e1", &durable);
    SERVICE_WAIT(p, durable == 1);
    service_down(p);
    assert_int_equal(lines(file_text(p, LAST_RESORT_FILE)), 1);
    assert_int_equal(atomic_load(&p->hook.calls), 1);
    assert_string_equal(p->hook.id, "e1");
}

static void a_storm_while_the_bus_is_away(void **state)
{
    struct place *p = *state;
    int durable[2];
    service_up(p, 0);
    p->set.alert.last_resort.url = (char *)"";
    p->set.alert.last_resort.after_ms = 2000;
    enum { N = 6000 };
    char id[16];
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof id, "m%d", i);
        raise_one(p, id, &durable[i % 2]);
        if (i % 200 == 0)
            turn(p);
    }
    SERVICE_WAIT(p, lines(file_text(p, LAST_RESORT_FILE)) == N); /* each once */
    service_down(p);
    assert_int_equal(lines(file_text(p, LAST_RESORT_FILE)), N);
    assert_non_null(strstr(file_text(p, LAST_RESORT_FILE), "too many alerts wait for the bus"));
}

#define PLACE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE(a_line_and_a_call),
        PLACE(three_tries),
        PLACE(a_hook_that_hangs_delays_nobody),
        PLACE(files_that_fail_and_that_are_full),
        PLACE(when_the_bus_is_away),
        PLACE(when_the_outbox_refuses),
        PLACE(when_the_service_ends_first),
        PLACE(a_storm_while_the_bus_is_away),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
