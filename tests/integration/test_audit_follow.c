/* test_audit_follow.c - copies on other hosts: what they take, what they refuse, and what they are given. */
#include "audit_town.h"

static int setup(void **state)
{
    struct town *t = town_open(NULL);
    char dir[700];
    *state = t;
    snprintf(dir, sizeof dir, "%s/mirror", t->base);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(dir, sizeof dir, "%s/to", t->base);
    assert_int_equal(mkdir(dir, 0700), 0);
    return 0;
}

static int teardown(void **state)
{
    town_close(*state);
    return 0;
}

static void test_follow(void **state)
{
    struct town *t = *state;
    char copy[700], chain[2 * AUDIT_CHAIN_BYTES + 1], witness[700];
    town_configure(t, "segment: 48KiB");
    town_start(t);
    town_say_in_steps(t, 0, 200, 900);
    snprintf(copy, sizeof copy, "%s/to/%s", t->base, town_chain(t, chain));
    snprintf(witness, sizeof witness, "--witness %s/witness.key --name here", t->base);
    TOWN_FOLLOW_UNTIL(t, witness, copy, 200);
    assert_true(t->report.segments > 2);
    /* It is cosigned, by the key that it told. */
    char line[300] = "";
    struct audit_vkey k;
    FILE *f = NULL;
    assert_int_equal(town_shell("grep '^witness ' %s/said | cut -d' ' -f2 >%s/vkey", t->base, t->base), 0);
    snprintf(line, sizeof line, "%s/vkey", t->base);
    f = fopen(line, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    line[strcspn(line, "\n")] = 0;
    assert_int_equal(audit_vkey_parse(line, &k, NULL), 0);
    assert_string_equal(k.name, "here");
    assert_int_equal(k.alg, AUDIT_NOTE_COSIGNATURE);
    assert_int_equal(town_shell("%s/redoubt audit verify --witness '%s' %s >/dev/null", t->bin, line, copy), 0);
    char text[600];
    snprintf(
        text, sizeof text,
        "segment: 48KiB, witnesses: [ \"%s\", \"somebody+80de635c+BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\" ]",
        line);
    town_configure(t, text);
    assert_int_equal(town_shell("%s/redoubt audit verify -c %s %s >%s/said", t->bin, t->conf, copy, t->base), 0);
    assert_true(town_said(t, ", seen by here, not seen by somebody"));
    assert_int_equal(town_shell("test $(stat -c %%a %s/witness.key) = 600", t->base), 0);
    /* It goes on from what it has; a key that changed meanwhile is followed. */
    town_say_in_steps(t, 200, 100, 900);
    assert_int_equal(town_shell("%s/redoubt audit rotate --nats %s --by me --reason yearly >%s/said 2>&1", t->bin,
                                t->nats->url, t->base),
                     0);
    assert_true(town_said(t, "its change number 1"));
    assert_int_equal(
        town_shell("%s/redoubt audit rotate --nats %s --by me >%s/said 2>&1", t->bin, t->nats->url, t->base), 2);
    assert_int_equal(
        town_shell("%s/redoubt audit rotate --nats %s --timeout 500ms --chain %s --reason x >%s/said 2>&1", t->bin,
                   t->nats->url, "00000000000000000000000000000000", t->base),
        3);
    TOWN_UNTIL(t, town_look(t, t->dir) == 300 && t->report.last_seq == 302); /* with the change's two records */
    assert_int_equal(t->report.keys.n, 2);
    TOWN_UNTIL(t, town_follow(t, "") == 0 && town_look(t, copy) == 300 && t->report.checkpoint.size == 302);
    assert_int_equal(t->report.keys.n, 2);
    assert_int_equal(town_follow(t, ""), 0); /* nothing new is fine */
    town_stop(t);
    assert_int_equal(
        town_shell("cd %s && for f in audit-*.seg audit.pub audit.keys; do cmp -s $f %s/$f || exit 1; done", copy,
                   t->dir),
        0);
    /* A replica that does not answer is not the same as nothing new. */
    assert_int_equal(town_follow(t, "--timeout 500ms"), 0);
    assert_int_equal(town_shell("rm -rf %s", copy), 0);
    assert_int_equal(town_follow(t, "--timeout 500ms"), 3);
    assert_true(town_said(t, "does not answer"));
}

/* Somebody who holds the trail's key and the bus makes the trail go back, or rewrites it: whoever followed it knows. */
static void test_follow_refuses(void **state)
{
    struct town *t = *state;
    char copy[700], chain[2 * AUDIT_CHAIN_BYTES + 1];
    town_configure(t, "segment: 48KiB");
    town_start(t);
    town_say_in_steps(t, 0, 50, 300);
    snprintf(copy, sizeof copy, "%s/to/%s", t->base, town_chain(t, chain));
    town_stop(t);
    assert_int_equal(town_shell("cp -a %s %s/old", t->dir, t->base), 0);
    town_start(t);
    town_say_in_steps(t, 50, 50, 300);
    TOWN_FOLLOW_UNTIL(t, "", copy, 100);
    town_stop(t);
    /* Back to 50 records, and the bus made to forget. */
    struct bus_out o = {.subject = "$JS.API.STREAM.PURGE." STREAM_STATE, .data = "", .len = 0};
    t->replied = false;
    bus_request(t->bus, &o, 5000, town_on_reply, t);
    TOWN_UNTIL(t, t->replied);
    assert_int_equal(t->reply_status, BUS_OK);
    assert_int_equal(town_shell("rm -rf %s && cp -a %s/old %s", t->dir, t->base, t->dir), 0);
    town_start(t);
    TOWN_UNTIL(t, town_status_has(t, "\"phase\":\"runs\""));
    assert_null(town_alerted(t, "audit/tampered"));
    TOWN_UNTIL(t,
               town_follow(t, "") == 1 && !town_said(t, "no trail is known")); /* as soon as the bus knows it again */
    assert_true(town_said(t, "REFUSED: it signs for 50 records, and 100 were kept here: it went back"));
    town_whole(t, copy, 100);
    assert_int_equal(town_shell("test $(ls %s | grep -c '^refused-\\|^kept-') = 2", copy), 0);
    /* Grown again beyond what was kept, with other records. */
    town_say_many(t, 200, 100, 300);
    TOWN_IDS(t, t->dir, 150);
    town_stop(t);
    town_start(t);
    TOWN_UNTIL(t, town_status_has(t, "\"phase\":\"runs\""));
    assert_int_equal(town_follow(t, ""), 1);
    assert_true(town_said(t, "REFUSED: "));
    town_whole(t, copy, 100);
    town_stop(t);
}

static void test_follow_another_key(void **state)
{
    struct town *t = *state;
    char copy[700], chain[2 * AUDIT_CHAIN_BYTES + 1], key[100];
    town_configure(t, "segment: 48KiB");
    town_start(t);
    town_say_in_steps(t, 0, 50, 300);
    snprintf(copy, sizeof copy, "%s/to/%s", t->base, town_chain(t, chain));
    TOWN_UNTIL(t, town_status_has(t, "\"checkpoint_size\":50"));
    memset(key, '1', 64);
    key[64] = 0;
    char more[120];
    snprintf(more, sizeof more, "--key %s", key);
    TOWN_UNTIL(t, town_follow(t, more) == 1 && !town_said(t, "no trail is known"));
    assert_true(town_said(t, "its keys do not lead back to the one that is known here"));
    assert_int_equal(town_shell("test -e %s/checkpoint", copy), 1);
    town_look(t, t->dir);
    sodium_bin2hex(key, sizeof key, t->report.keys.list[0].key, AUDIT_PUBLIC_BYTES);
    snprintf(more, sizeof more, "--key %s", key);
    TOWN_FOLLOW_UNTIL(t, more, copy, 50);
    /* A copy that was tampered with is said, and not built upon. */
    char path[900], name[AUDIT_NAME_MAX];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", copy, name);
    town_flip(path, 500);
    assert_int_equal(town_follow(t, ""), 1);
    assert_true(town_said(t, "does not verify"));
    town_stop(t);
}

/* ---- reading it ---- */

static void ask_bytes(struct town *t, const char *chain, uint64_t first, uint64_t offset)
{
    PB(AuditRead) q = PB_INIT(AUDIT_READ);
    q.chain = (char *)chain;
    q.first_sequence = first;
    q.offset = offset;
    size_t len;
    void *data = wire_pack(&q, &len, NULL);
    assert_non_null(data);
    struct bus_out o = {.subject = SUBJECT_CMD "audit.read", .data = data, .len = len};
    t->replied = false;
    bus_request(t->bus, &o, 1000, town_on_reply, t);
    free(data);
    TOWN_UNTIL(t, t->replied);
}

static void test_read(void **state)
{
    struct town *t = *state;
    char chain[2 * AUDIT_CHAIN_BYTES + 1];
    town_configure(t, "segment: 16KiB");
    town_start(t);
    town_say_in_steps(t, 0, 100, 300);
    town_chain(t, chain);
    ask_bytes(t, chain, 0, 0);
    assert_int_equal(t->reply_status, BUS_OK);
    PB(AuditBytes) *b = wire_unpack(PB_DESC(audit_bytes), t->reply, t->reply_len, NULL);
    assert_non_null(b);
    assert_int_equal(b->next_sequence, 1);
    assert_int_equal(strlen(b->public_key), 64);
    assert_non_null(strstr(b->note, chain));
    wire_free(b);
    ask_bytes(t, chain, 1, 4);
    b = wire_unpack(PB_DESC(audit_bytes), t->reply, t->reply_len, NULL);
    assert_non_null(b);
    assert_true(b->segment_bytes > 16384 && b->data.len == b->segment_bytes - 4 && b->next_sequence == 51);
    assert_memory_equal(b->data.data, "AUD1", 4);
    wire_free(b);
    ask_bytes(t, chain, 1, UINT64_MAX); /* beyond its end is nothing */
    b = wire_unpack(PB_DESC(audit_bytes), t->reply, t->reply_len, NULL);
    assert_true(b && b->data.len == 0 && b->next_sequence == 51);
    wire_free(b);
    ask_bytes(t, chain, 2, 0); /* no segment begins there */
    assert_int_equal(t->reply_status, BUS_OK);
    assert_int_equal(t->reply_len, 0);
    ask_bytes(t, "00112233445566778899aabbccddeeff", 0, 0); /* nobody's: nobody answers */
    assert_int_equal(t->reply_status, BUS_TIMEOUT);
    /* Nonsense is no reason to end. */
    struct bus_out o = {.subject = SUBJECT_CMD "audit.read", .reply = "_INBOX_test.x", .data = "\xff\xff", .len = 2};
    assert_int_equal(bus_publish(t->bus, &o, NULL), 0);
    o.subject = SUBJECT_CMD "audit.rotate";
    assert_int_equal(bus_publish(t->bus, &o, NULL), 0);
    town_say_many(t, 100, 1, 10);
    TOWN_IDS(t, t->dir, 101);
    town_stop(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_follow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_follow_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_follow_another_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
