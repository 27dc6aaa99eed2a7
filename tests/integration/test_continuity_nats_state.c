/* test_continuity_nats_state.c - the suite's streams saved from one real nats-server and restored into another. */
#include "bus_kit.h"
#include "continuity/backup_nats.h"
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS 10000
#define WORK   50
#define ACKED  20

struct ended {
    int n;
    bool ok, refused;
    struct backup_copy_sum sum;
    char text[ERR_TEXT_MAX];
    int said;
    struct harness_proc *kill; /* at the first line */
};

static void on_end(void *ctx, const struct backup_copy_end *r)
{
    struct ended *x = ctx;
    x->n++;
    x->ok = r->ok;
    x->refused = r->refused;
    x->sum = r->sum;
    kit_copy(x->text, sizeof x->text, r->text);
}

static void on_say(void *ctx, const char *text)
{
    struct ended *x = ctx;
    assert_non_null(text);
    if (x->said++ == 0 && x->kill)
        harness_kill(x->kill);
}

static const char *dir_of(struct kit *k, const char *name)
{
    static char buf[4][700];
    static int i;
    i = (i + 1) % 4;
    snprintf(buf[i], sizeof buf[i], "%s/%s", harness_dir(k->h), name);
    return buf[i];
}

static struct ended save(struct kit *k, struct kit_bus *kb, const char *dir)
{
    struct ended x = {0};
    (void)backup_nats_save(&(struct backup_nats_opts){.loop = &k->loop, .bus = kb->b, .dir = dir}, on_end, &x);
    assert_int_equal(x.n, 0);
    KIT_WAIT(k, x.n == 1);
    return x;
}

static struct ended restore(struct kit *k, struct kit_bus *kb, const char *dir, bool force)
{
    struct ended x = {0};
    (void)backup_nats_restore(
        &(struct backup_nats_opts){.loop = &k->loop, .bus = kb->b, .dir = dir, .force = force, .say = on_say}, on_end,
        &x);
    KIT_WAIT(k, x.n == 1);
    return x;
}

/* A number of what the API says of a stream or a consumer. */
static long info(struct kit_bus *kb, const char *subject, const char *key)
{
    static struct kit_answer a;
    return kit_number(kit_ask(kb, &a, subject, ""), key);
}

static bool absent(struct kit_bus *kb, const char *stream)
{
    static struct kit_answer a;
    char subject[128];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.INFO.%s", stream);
    return strstr(kit_ask(kb, &a, subject, ""), "10059") != NULL;
}

struct work {
    int n, ack;
    char seen[WORK + 1];
};

static void on_work(void *ctx, const struct bus_msg *m, struct bus_hold *h)
{
    struct work *w = ctx;
    w->n++;
    if (m->stream_seq <= WORK)
        w->seen[m->stream_seq]++;
    if (m->stream_seq <= (uint64_t)w->ack)
        bus_ack(h);
    else
        bus_nak(h, 60000, "later");
}

static const struct bus_consumer_opts worker = {
    .stream = STREAM_ACTIONS, .durable = "worker", .filter = SUBJECT_QUEUE ">", .ack_wait_ms = 60000};

/* Some of everything: 10,000 events, documents that replace each other, a work queue of which a part is done. */
static void fill(struct kit *k, struct kit_bus *kb)
{
    struct kit_stored s = {0};
    char subject[SUBJECT_MAX_LEN], id[64], text[128];
    int asked = 0;
    for (int i = 1; i <= EVENTS; i++) {
        snprintf(subject, sizeof subject, SUBJECT_INCIDENT "i%d", i % 7);
        snprintf(id, sizeof id, "event-%d", i);
        snprintf(text, sizeof text, "event %d of a long day, with some text so that it has a body", i);
        struct bus_out o = kit_out(subject, id, text);
        bus_store(kb->b, &o, 0, kit_stored, &s);
        asked++;
    }
    for (int i = 1; i <= 40; i++) {
        snprintf(subject, sizeof subject, SUBJECT_HEALTH "target.t%d", i % 10);
        snprintf(id, sizeof id, "health-%d", i);
        struct bus_out o = kit_out(subject, id, id);
        bus_store(kb->b, &o, 0, kit_stored, &s);
        asked++;
    }
    for (int i = 1; i <= WORK; i++) {
        snprintf(id, sizeof id, "work-%d", i);
        struct bus_out o = kit_out(SUBJECT_QUEUE "agent", id, id);
        bus_store(kb->b, &o, 0, kit_stored, &s);
        asked++;
    }
    KIT_WAIT_MS(k, s.n == asked, 60000);
    assert_int_equal(s.ok, asked);
    struct work w = {.ack = ACKED};
    struct bus_consumer *c = bus_consume(kb->b, &worker, on_work, &w);
    KIT_WAIT(k, w.n == WORK);
    KIT_WAIT(k, info(kb, "$JS.API.STREAM.INFO." STREAM_ACTIONS, "messages") == WORK - ACKED);
    bus_consumer_close(c);
}

static const char *const of_streams[] = {"messages",     "first_seq", "last_seq", "consumer_count",
                                         "num_subjects", "max_bytes", "max_age"};
static const char *const of_consumers[] = {"num_pending", "stream_seq", "ack_wait", "max_ack_pending"};

static void the_whole_is_the_same_elsewhere(void **state)
{
    struct kit *k = *state;
    struct kit_bus from, to;
    struct backup_copy_sum sum;
    struct err e;
    harness_start(k->nats);
    kit_open_up(k, &from);
    fill(k, &from);
    struct ended x = save(k, &from, dir_of(k, "saved"));
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(x.sum.files, bus_streams_n);
    assert_int_equal(x.sum.items, EVENTS + 10 + WORK - ACKED);
    assert_int_equal(backup_nats_verify(dir_of(k, "saved"), NULL, &sum, &e), 0);
    assert_int_equal(sum.items, x.sum.items);
    assert_int_equal(sum.bytes, x.sum.bytes);

    struct harness_proc *other = harness_nats(k->h, "other", NULL);
    kit_open(k, &to, (struct bus_opts){.url = other->url, .guest = true});
    KIT_WAIT(k, to.ups == 1);
    x = restore(k, &to, dir_of(k, "saved"), false);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(x.said, bus_streams_n);
    for (size_t i = 0; i < bus_streams_n; i++)
        for (size_t f = 0; f < sizeof of_streams / sizeof *of_streams; f++) {
            char subject[128];
            snprintf(subject, sizeof subject, "$JS.API.STREAM.INFO.%s", bus_streams[i].name);
            long was = info(&from, subject, of_streams[f]), is = info(&to, subject, of_streams[f]);
            /* Of an empty one, servers say 0 or 1. */
            if (was != is && (strcmp(of_streams[f], "first_seq") != 0 || info(&from, subject, "messages") > 0))
                fail_msg("%s of %s was %ld and is %ld", of_streams[f], bus_streams[i].name, was, is);
        }
    for (size_t f = 0; f < sizeof of_consumers / sizeof *of_consumers; f++)
        assert_int_equal(info(&from, "$JS.API.CONSUMER.INFO." STREAM_ACTIONS ".worker", of_consumers[f]),
                         info(&to, "$JS.API.CONSUMER.INFO." STREAM_ACTIONS ".worker", of_consumers[f]));
    /* Each at its place, with its id. */
    for (int i = 1; i <= EVENTS; i += 999) {
        static struct kit_answer a;
        char want[64];
        a.n = 0;
        bus_next(to.b, STREAM_EVENTS, SUBJECT_INCIDENT ">", (uint64_t)i, 5000, kit_answer, &a);
        KIT_WAIT(k, a.n == 1);
        assert_int_equal(a.st, BUS_OK);
        assert_int_equal(a.seq, i);
        snprintf(want, sizeof want, "event-%d", i);
        assert_string_equal(a.id, want);
    }
    kit_close(&to);

    /* Work goes on: numbers continue, what was stored is known by its id, what was done is not done again. */
    kit_open(k, &to, (struct bus_opts){.url = other->url});
    KIT_WAIT(k, to.ups == 1);
    struct kit_stored s = {0};
    struct bus_out o = kit_out(SUBJECT_INCIDENT "i1", "event-new", "x");
    bus_store(to.b, &o, 0, kit_stored, &s);
    KIT_WAIT(k, s.n == 1);
    assert_int_equal(s.last_seq, EVENTS + 1);
    o = kit_out(SUBJECT_QUEUE "agent", "work-50", "work-50");
    bus_store(to.b, &o, 0, kit_stored, &s);
    KIT_WAIT(k, s.n == 2);
    assert_int_equal(s.duplicate, 1);
    struct work w = {.ack = WORK};
    static const struct bus_consumer_opts again = {
        .stream = STREAM_ACTIONS, .durable = "worker", .filter = SUBJECT_QUEUE ">", .ack_wait_ms = 60000};
    struct bus_consumer *c = bus_consume(to.b, &again, on_work, &w);
    struct bus_out more = kit_out(SUBJECT_QUEUE "agent", "work-51", "work-51");
    bus_store(to.b, &more, 0, kit_stored, &s);
    KIT_WAIT_MS(k, w.n >= 1, 30000);
    for (int i = 1; i <= ACKED; i++)
        assert_int_equal(w.seen[i], 0);
    bus_consumer_close(c);
    kit_close(&to);
    kit_close(&from);
}

static void it_does_not_overwrite(void **state)
{
    struct kit *k = *state;
    struct kit_bus kb, guest;
    struct kit_stored s = {0};
    harness_start(k->nats);
    kit_open_up(k, &kb);
    struct bus_out o = kit_out(SUBJECT_INCIDENT "a", "one", "one");
    bus_store(kb.b, &o, 0, kit_stored, &s);
    KIT_WAIT(k, s.ok == 1);
    assert_true(save(k, &kb, dir_of(k, "one")).ok);
    o = kit_out(SUBJECT_INCIDENT "a", "two", "two");
    bus_store(kb.b, &o, 0, kit_stored, &s);
    KIT_WAIT(k, s.ok == 2);
    kit_close(&kb);

    kit_open(k, &guest, (struct bus_opts){.guest = true});
    KIT_WAIT(k, guest.ups == 1);
    struct ended x = restore(k, &guest, dir_of(k, "one"), false);
    assert_false(x.ok);
    assert_true(x.refused);
    assert_non_null(strstr(x.text, STREAM_EVENTS));
    assert_non_null(strstr(x.text, "--force"));
    assert_int_equal(info(&guest, "$JS.API.STREAM.INFO." STREAM_EVENTS, "messages"), 2);

    /* Streams that are there and were never used do not matter. */
    static struct kit_answer a;
    assert_non_null(strstr(kit_ask(&guest, &a, "$JS.API.STREAM.DELETE." STREAM_EVENTS, ""), "true"));
    x = restore(k, &guest, dir_of(k, "one"), false);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(info(&guest, "$JS.API.STREAM.INFO." STREAM_EVENTS, "messages"), 1);

    x = restore(k, &guest, dir_of(k, "one"), true);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_non_null(strstr(x.text, "deleted"));
    assert_int_equal(info(&guest, "$JS.API.STREAM.INFO." STREAM_EVENTS, "last_seq"), 1);
    kit_close(&guest);
}

static void flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char c;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &c, 1, at), 1);
    c ^= 0x40;
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

static void refuses(struct kit *k, struct kit_bus *kb, const char *dir, const char *because)
{
    struct ended x = restore(k, kb, dir, true);
    assert_false(x.ok);
    if (!strstr(x.text, because))
        fail_msg("it said `%s`, not `%s`", x.text, because);
    for (size_t i = 0; i < bus_streams_n; i++)
        assert_true(absent(kb, bus_streams[i].name));
}

/* A manifest that says of the damaged file that it must be so. */
static void bless(const char *dir, const char *stream)
{
    char path[1000], manifest[1000], hex[65];
    uint64_t bytes;
    struct err e;
    size_t i;
    json_t *s;
    snprintf(path, sizeof path, "%s/%s.snapshot", dir, stream);
    snprintf(manifest, sizeof manifest, "%s/" BACKUP_NATS_MANIFEST, dir);
    assert_int_equal(backup_copy_hash(path, NULL, hex, &bytes, &e), 0);
    json_t *m = json_load_file(manifest, 0, NULL);
    json_array_foreach(json_object_get(m, "streams"), i, s)
    {
        if (strcmp(json_string_value(json_object_get(s, "name")), stream) == 0) {
            json_object_set_new(s, "sha256", json_string(hex));
            json_object_set_new(s, "bytes", json_integer((json_int_t)bytes));
        }
    }
    assert_int_equal(json_dump_file(m, manifest, 0), 0);
    json_decref(m);
}

static void a_damaged_copy_is_refused(void **state)
{
    struct kit *k = *state;
    struct kit_bus kb, to;
    struct kit_stored s = {0};
    char path[1000];
    harness_start(k->nats);
    kit_open_up(k, &kb);
    struct bus_out o = kit_out(SUBJECT_HEALTH "t", "one", "one");
    bus_store(kb.b, &o, 0, kit_stored, &s);
    KIT_WAIT(k, s.ok == 1);
    const char *dir = dir_of(k, "copy");
    assert_true(save(k, &kb, dir).ok);
    kit_close(&kb);
    struct harness_proc *other = harness_nats(k->h, "other", NULL);
    kit_open(k, &to, (struct bus_opts){.url = other->url, .guest = true});
    KIT_WAIT(k, to.ups == 1);

    snprintf(path, sizeof path, "%s/" STREAM_STATE ".snapshot", dir);
    flip(path, 100);
    refuses(k, &to, dir, "SHA-256 differs");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    flip(path, 100);
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    refuses(k, &to, dir, "bytes and had");
    /* What only the server can see. STATE is the first one. */
    bless(dir, STREAM_STATE);
    refuses(k, &to, dir, STREAM_STATE " cannot be restored");
    snprintf(path, sizeof path, "%s/" STREAM_DEAD ".snapshot", dir);
    assert_int_equal(unlink(path), 0);
    refuses(k, &to, dir, "No such file");
    static const struct {
        const char *text, *because;
    } manifests[] = {
        {"", "cannot read"},
        {"{}", "not a manifest"},
        {"{\"format\":\"redoubt-nats\",\"version\":2,\"streams\":[]}", "version 2"},
        {"{\"format\":\"redoubt-nats\",\"version\":1,\"streams\":[]}", "names no streams"},
        {"{\"format\":\"redoubt-nats\",\"version\":1,\"streams\":[{\"name\":\"../x\"}]}", "stream 0 is not"},
        {"{\"format\":\"redoubt-nats\",\"version\":1,\"streams\":[{\"name\":\"A\",\"file\":\"../"
         "x\",\"sha256\":\"\"}]}",
         "stream 0 is not"},
        {"{\"format\":\"redoubt-nats\",\"version\":1,\"streams\":[7]}", "stream 0 is not"},
    };
    for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++) {
        struct err e;
        assert_int_equal(
            backup_copy_write(dir, BACKUP_NATS_MANIFEST, manifests[i].text, strlen(manifests[i].text), &e), 0);
        refuses(k, &to, dir, manifests[i].because);
    }
    kit_close(&to);
}

static void a_server_that_dies_midway(void **state)
{
    struct kit *k = *state;
    struct kit_bus kb, to;
    struct kit_stored s = {0};
    struct backup_copy_sum sum;
    struct err e;
    const char *dir = dir_of(k, "midway");
    harness_start(k->nats);
    kit_open_up(k, &kb);
    struct bus_out o = kit_out(SUBJECT_HEALTH "t", "one", "one");
    bus_store(kb.b, &o, 0, kit_stored, &s);
    KIT_WAIT(k, s.ok == 1);
    assert_true(save(k, &kb, dir).ok);

    struct ended x = {.kill = k->nats};
    struct backup_nats_opts opts = {.loop = &k->loop, .bus = kb.b, .dir = dir, .silence_ms = 500, .say = on_say};
    (void)backup_nats_save(&opts, on_end, &x);
    KIT_WAIT(k, x.n == 1);
    assert_false(x.ok);
    assert_int_equal(x.said, 1);
    assert_non_null(strstr(x.text, "stream " STREAM_EVENTS)); /* STATE, the first, was saved */
    /* The old manifest is not taken for one of what is there now. */
    assert_int_equal(backup_nats_verify(dir, NULL, &sum, &e), -1);
    harness_start(k->nats);
    KIT_WAIT(k, kb.ups == 2);
    assert_true(save(k, &kb, dir).ok);
    assert_int_equal(backup_nats_verify(dir, NULL, &sum, &e), 0);
    kit_close(&kb);

    struct harness_proc *other = harness_nats(k->h, "other", NULL);
    kit_open(k, &to, (struct bus_opts){.url = other->url, .guest = true});
    KIT_WAIT(k, to.ups == 1);
    x = (struct ended){.kill = other};
    opts = (struct backup_nats_opts){.loop = &k->loop, .bus = to.b, .dir = dir, .silence_ms = 500, .say = on_say};
    (void)backup_nats_restore(&opts, on_end, &x);
    KIT_WAIT(k, x.n == 1);
    assert_false(x.ok);
    assert_non_null(strstr(x.text, "stream " STREAM_EVENTS));
    assert_non_null(strstr(x.text, "--force"));
    harness_start(other);
    KIT_WAIT(k, to.ups == 2);
    x = restore(k, &to, dir, true);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(info(&to, "$JS.API.STREAM.INFO." STREAM_STATE, "messages"), 1);
    kit_close(&to);
}

static void dropped_midway(void **state)
{
    struct kit *k = *state;
    struct kit_bus kb;
    struct ended x = {0};
    harness_start(k->nats);
    kit_open_up(k, &kb);
    for (int turns = 0; turns < 6; turns++) {
        struct backup_nats_opts opts = {.loop = &k->loop, .bus = kb.b, .dir = dir_of(k, "dropped")};
        struct backup_nats *c = backup_nats_save(&opts, on_end, &x);
        for (int i = 0; i < turns; i++)
            kit_turn(k);
        if (x.n == 0)
            backup_nats_drop(c);
        x.n = 0;
        kit_turn(k);
        assert_int_equal(x.n, 0);
    }
    backup_nats_drop(NULL);
    kit_close(&kb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_whole_is_the_same_elsewhere, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(it_does_not_overwrite, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(a_damaged_copy_is_refused, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(a_server_that_dies_midway, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(dropped_midway, kit_setup, kit_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
