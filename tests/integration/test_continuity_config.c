/* test_continuity_config.c - the history of the configuration with a real git: changes by hand, apply, rollback, diffs, secrets. */
#include "config_town.h"
#include <dirent.h>

#define INVALID "log: {level: loud}\n"

static void the_first_start_is_the_first_version(void **state)
{
    (void)state;
    settle();
    assert_int_equal(town.announced, 1);
    assert_string_equal(town.state->commit, town.room->tip.id);
    char sha[SHA256_TEXT];
    assert_true(sha256_file(path_of("redoubt.yaml"), sha));
    assert_string_equal(town.state->sha256, sha);
    assert_non_null(strstr(town.state->by, "unknown (file owner "));
    assert_string_equal(town.state->reason, "found at the first start");
    assert_int_equal(town.state->fence, 7);
    assert_true(strncmp(town.record, "config.accepted|", 16) == 0);
    const PB(ConfigHistory) *h = ask_history("");
    assert_int_equal(h->n_commits, 1);
    assert_string_equal(h->commits[0]->sha256, sha);
    assert_int_equal(h->commits[0]->added, 2);

    /* Another start finds it as it is, and says nothing new. */
    close_room();
    open_room();
    settle();
    for (int i = 0; i < 5; i++)
        tick();
    assert_int_equal(town.announced, 1);
    assert_int_equal(ask_history("")->n_commits, 1);
}

static void a_change_by_hand_is_accepted_if_it_is_right(void **state)
{
    (void)state;
    settle();
    char first[CONFIG_GIT_ID];
    snprintf(first, sizeof first, "%s", town.room->tip.id);
    hand_change(INVALID);
    UNTIL(town.raised == 1);
    assert_string_equal(town.alert, "config/invalid");
    assert_non_null(strstr(town.alert_detail, "log.level"));
    assert_int_equal(town.state->open_alerts, CONFIG_ALERT_INVALID);
    for (int i = 0; i < 30; i++) /* over the time in which it is judged again */
        tick();
    assert_int_equal(town.raised, 1); /* once */
    assert_string_equal(town.room->tip.id, first);

    hand_change(settings_text("debug", ""));
    UNTIL(strcmp(town.room->tip.id, first) != 0);
    assert_int_equal(town.resolved, 1);
    assert_string_equal(town.state->reason, "changed in place");
    assert_int_equal(town.state->open_alerts, 0);
    assert_int_equal(ask_history("")->n_commits, 2);

    /* Gone: an alert; back as it was: well, and no new version. */
    assert_int_equal(rename(path_of("redoubt.yaml"), path_of("elsewhere")), 0);
    UNTIL(town.raised == 2);
    assert_non_null(strstr(town.alert_detail, "No such file"));
    assert_int_equal(rename(path_of("elsewhere"), path_of("redoubt.yaml")), 0);
    UNTIL(town.resolved == 2);
    assert_int_equal(ask_history("")->n_commits, 2);
}

/* The alert survives the one who raised it. */
static void an_open_alert_is_handed_over(void **state)
{
    (void)state;
    settle();
    hand_change(INVALID);
    UNTIL(town.raised == 1);
    close_room();
    open_room();
    hand_change(settings_text("info", ""));
    UNTIL(town.resolved == 1);
    assert_int_equal(town.raised, 1);
}

static void what_is_being_written_is_not_judged(void **state)
{
    (void)state;
    settle();
    unsigned said = town.announced;
    for (int i = 0; i < 6; i++) { /* each state of it would be right, or wrong, by itself */
        char text[200];
        snprintf(text, sizeof text, "log: {level: %s}\n#%d\n", i % 2 ? "debug" : "loud", i);
        hand_change(text);
        tick();
    }
    assert_int_equal(town.announced, said);
    assert_int_equal(town.raised, 0);
    UNTIL(town.announced == said + 1);
    assert_string_equal(town.state->reason, "changed in place");
}

static void old_is_there(struct continuity *c)
{
    (void)c;
    assert_string_equal(read_file("redoubt.yaml"), settings_text("info", "")); /* recorded first */
}

static void apply_writes_what_was_handed_in(void **state)
{
    (void)state;
    settle();
    char big[3500];
    int n = snprintf(big, sizeof big, "log: {level: warn}\n");
    while (n < 3300)
        n += snprintf(big + n, sizeof big - (size_t)n, "# line %d\n", n); /* in several parts */
    char first[CONFIG_GIT_ID];
    snprintf(first, sizeof first, "%s", town.room->tip.id);

    assert_int_equal(apply(big, (struct how){.dry_run = true}), CONFIG_OK);
    assert_non_null(town.diff);
    assert_non_null(strstr(town.diff->text, "-  level: info\n+  level: warn\n"));
    assert_int_equal(town.strict, 0);
    old_is_there(&town);

    town.on_strict = old_is_there;
    assert_int_equal(apply(big, (struct how){0}), CONFIG_OK);
    assert_int_equal(town.strict, 1);
    assert_non_null(strstr(town.strict_detail, "config.applied|ada|"));
    assert_string_equal(read_file("redoubt.yaml"), big);
    struct stat st;
    assert_int_equal(stat(path_of("redoubt.yaml"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640); /* as it was */
    assert_string_equal(town.state->by, "ada");
    assert_string_equal(town.state->reason, "more to read");
    assert_string_equal(town.state->commit, town.room->tip.id);
    assert_int_equal(access(path_of("continuity/config.work/change.json"), F_OK), -1);

    /* The same again is no change. */
    assert_int_equal(apply(big, (struct how){0}), CONFIG_ALREADY);

    /* And back. */
    town.on_strict = NULL;
    assert_int_equal(roll_back(first), CONFIG_OK);
    assert_string_equal(read_file("redoubt.yaml"), settings_text("info", ""));
    assert_string_equal(town.state->by, "bob");
    const PB(ConfigHistory) *h = ask_history("");
    assert_int_equal(h->n_commits, 3);
    assert_string_equal(h->commits[0]->reason, "was better");
    assert_string_equal(h->commits[0]->sha256, h->commits[2]->sha256);
    assert_string_equal(h->commits[2]->commit, first);
    for (int i = 0; i < 4; i++) /* and what the room has written is no change by hand */
        tick();
    assert_int_equal(ask_history("")->n_commits, 3);
    assert_int_equal(town.raised, 0);
}

static void change_by_hand(struct continuity *c)
{
    (void)c;
    hand_change(settings_text("error", ""));
}

static void apply_refuses(void **state)
{
    (void)state;
    settle();
    const char *good = settings_text("debug", "");
    char copy[200];
    snprintf(copy, sizeof copy, "%s", good);

    assert_int_equal(apply(copy, (struct how){.from = "0123456789"}), CONFIG_UNAVAILABLE); /* of another version */
    assert_int_equal(apply(copy, (struct how){.from = ""}), CONFIG_INVALID);
    assert_int_equal(apply(INVALID, (struct how){0}), CONFIG_INVALID);
    assert_non_null(strstr(town.answer, "log.level"));
    assert_int_equal(roll_back("abcdef12"), CONFIG_INVALID);
    assert_int_equal(roll_back("--all"), CONFIG_INVALID);
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    m.sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
    m.from = town.room->tip.id;
    order("config_apply", &m);
    assert_int_equal(town.status, CONFIG_INVALID); /* by whom, and why? */
    m.by = "ada";
    m.reason = "x";
    order("config_apply", &m);
    assert_int_equal(town.status, CONFIG_INVALID); /* nothing was handed in */

    town.strict_fails = true;
    assert_int_equal(apply(copy, (struct how){0}), CONFIG_UNAVAILABLE);
    assert_non_null(strstr(town.answer, "no sink"));
    town.strict_fails = false;

    /* While one is under way there is no other. */
    town.strict_held = true;
    char sha[SHA256_TEXT];
    put(copy, 1000, sha);
    m.sha256 = sha;
    order("config_apply", &m);
    UNTIL(town.then);
    order("config_apply", &m);
    assert_true(town.answered);
    assert_int_equal(town.status, CONFIG_UNAVAILABLE);
    town.answered = false;
    town.leads = false; /* and it leads no more when the record is there */
    on_strict(&town);
    assert_true(town.answered);
    assert_int_equal(town.status, CONFIG_UNAVAILABLE);
    town.leads = true;
    town.strict_held = false;
    assert_string_equal(read_file("redoubt.yaml"), settings_text("info", ""));

    /* Changed by hand between the question and the answer: that one counts. */
    town.on_strict = change_by_hand;
    assert_int_equal(apply(copy, (struct how){0}), CONFIG_UNAVAILABLE);
    town.on_strict = NULL;
    assert_string_equal(read_file("redoubt.yaml"), settings_text("error", ""));
    assert_int_equal(ask_history("")->n_commits, 1);
    snprintf(copy, sizeof copy, "%s", town.room->tip.id);
    UNTIL(strcmp(town.room->tip.id, copy) != 0);
    assert_string_equal(town.state->reason, "changed in place");

    /* A wrong one may be replaced. */
    hand_change(INVALID);
    UNTIL(town.raised == 1);
    assert_int_equal(apply(settings_text("debug", ""), (struct how){0}), CONFIG_OK);
    assert_int_equal(town.resolved, 1);
}

static void secrets_stay_out(void **state)
{
    (void)state;
    settle();
    char text[600];
    assert_int_equal(setenv("TOWN_SECRET", "s3cr3t", 1), 0);
    snprintf(text, sizeof text, "nats: {user: u, password: hunter2}\n");
    assert_int_equal(apply(text, (struct how){0}), CONFIG_INVALID);
    assert_non_null(strstr(town.answer, "nats.password"));
    assert_null(strstr(town.answer, "hunter2"));
    snprintf(text, sizeof text, "nats: {user: u, password: \"${TOWN_SECRET}\"}\n");
    assert_int_equal(apply(text, (struct how){0}), CONFIG_OK);
    assert_non_null(strstr(town.diff->text, "***"));
    assert_null(strstr(town.diff->text, "s3cr3t"));

    snprintf(text, sizeof text, "nats: {user: other, password: hunter2}\n");
    assert_int_equal(apply(text, (struct how){.force = true}), CONFIG_OK);
    assert_int_equal(ask_diff("", ""), CONFIG_OK);
    assert_null(strstr(town.diff->text, "hunter2"));
    assert_null(strstr(town.answer, "hunter2"));
    /* What an old version refers to is gone: it cannot be shown without its secrets, so it is not. */
    assert_int_equal(unsetenv("TOWN_SECRET"), 0);
    assert_int_equal(ask_diff("", ""), CONFIG_UNAVAILABLE);
    assert_non_null(strstr(town.answer, "TOWN_SECRET"));
}

static void versions_are_compared(void **state)
{
    (void)state;
    settle();
    char one[CONFIG_GIT_ID], two[CONFIG_GIT_ID], three[CONFIG_GIT_ID];
    snprintf(one, sizeof one, "%s", town.room->tip.id);
    assert_int_equal(ask_diff("", ""), CONFIG_OK);
    assert_non_null(strstr(town.diff->text, "--- nothing\n"));
    assert_int_equal(apply(settings_text("debug", ""), (struct how){0}), CONFIG_OK);
    snprintf(two, sizeof two, "%s", town.room->tip.id);
    assert_int_equal(apply("log: {level: debug}\n# said otherwise\n", (struct how){0}), CONFIG_OK);
    assert_non_null(strstr(town.diff->text, "no setting differs"));
    snprintf(three, sizeof three, "%s", town.room->tip.id);
    one[8] = two[8] = '\0'; /* beginnings do */
    assert_int_equal(ask_diff(one, two), CONFIG_OK);
    assert_non_null(strstr(town.diff->text, "-  level: info\n+  level: debug\n"));
    assert_int_equal(ask_diff(two, one), CONFIG_OK);
    assert_non_null(strstr(town.diff->text, "+  level: info\n"));
    assert_int_equal(ask_diff(two, three), CONFIG_OK);
    assert_null(town.diff);
    assert_non_null(strstr(town.answer, "no setting differs"));
    assert_int_equal(ask_diff("", two), CONFIG_OK); /* what that one has changed */
    assert_non_null(strstr(town.diff->text, "+  level: debug\n"));
    assert_int_equal(ask_diff("0000", ""), CONFIG_INVALID);
    assert_int_equal(ask_diff("HEAD", ""), CONFIG_INVALID);

    /* A long one is cut at the end of a line. */
    char *many = malloc(400000);
    assert_non_null(many);
    int n = sprintf(many, "targets:\n");
    for (int i = 0; i < 900; i++)
        n += sprintf(many + n, "  - {name: backend.b%d, kind: backend}\n", i);
    assert_int_equal(apply(many, (struct how){0}), CONFIG_OK);
    assert_true(town.diff->cut);
    assert_true(strlen(town.diff->text) <= CONFIG_TEXT);
    assert_int_equal(town.diff->text[strlen(town.diff->text) - 1], '\n');
    free(many);
}

/* What a kill at any point leaves is finished or undone, with who and why. */
static void a_kill_is_finished_or_undone(void **state)
{
    (void)state;
    settle();
    struct err e = {""};
    char was[4096], now[4096], work[700];
    snprintf(was, sizeof was, "%s", settings_text("info", ""));
    snprintf(now, sizeof now, "%s", settings_text("debug", "# and more\n"));
    snprintf(work, sizeof work, "%s", town.room->work);
    struct config_journal j = {.verb = "config_apply", .by = "eve", .reason = "cut short"};
    sha256_text(was, strlen(was), j.was);
    sha256_text(now, strlen(now), j.now);

    /* Before the file was written: undone. */
    close_room();
    assert_int_equal(config_journal_write(work, &j, now, strlen(now), &e), 0);
    open_room();
    UNTIL(town.room->ready && strstr(town.record, "config.applied|eve|"));
    assert_non_null(strstr(town.record, "|3|")); /* it failed */
    assert_int_equal(access(path_of("continuity/config.work/change.json"), F_OK), -1);
    assert_string_equal(read_file("redoubt.yaml"), was);
    assert_int_equal(ask_history("")->n_commits, 1);

    /* After it was written, before it was committed: finished. */
    close_room();
    assert_int_equal(config_journal_write(work, &j, now, strlen(now), &e), 0);
    hand_change(now);
    open_room();
    settle();
    UNTIL(strcmp(town.state->by, "eve") == 0);
    assert_string_equal(town.state->reason, "cut short");
    assert_int_equal(ask_history("")->n_commits, 2);
    assert_int_equal(access(path_of("continuity/config.work/change.json"), F_OK), -1);

    /* After it was committed: nothing is left to do. */
    close_room();
    assert_int_equal(config_journal_write(work, &j, now, strlen(now), &e), 0);
    open_room();
    UNTIL(access(path_of("continuity/config.work/change.json"), F_OK) == -1);
    assert_int_equal(ask_history("")->n_commits, 2);

    /* In the middle of writing in place: written again. */
    snprintf(was, sizeof was, "%s", now);
    snprintf(now, sizeof now, "%s", settings_text("warn", "# the third one\n"));
    memcpy(j.was, j.now, sizeof j.was);
    sha256_text(now, strlen(now), j.now);
    j.in_place = true;
    close_room();
    assert_int_equal(config_journal_write(work, &j, now, strlen(now), &e), 0);
    char half[4096];
    snprintf(half, sizeof half, "%.28s%s", now, was + 28);
    hand_change(half);
    open_room();
    UNTIL(strcmp(town.state->commit, town.room->tip.id) == 0 && town.room->ready && !town.room->change &&
          strcmp(town.room->tip.sha256, j.now) == 0);
    assert_string_equal(read_file("redoubt.yaml"), now);

    /* Changed by hand since: that one counts. */
    memcpy(j.was, j.now, sizeof j.was);
    j.in_place = false;
    sha256_text("x", 1, j.now);
    close_room();
    assert_int_equal(config_journal_write(work, &j, "x", 1, &e), 0);
    hand_change(settings_text("error", ""));
    open_room();
    UNTIL(town.room->ready && strcmp(town.room->tip.reason, "changed in place") == 0);
    assert_string_equal(read_file("redoubt.yaml"), settings_text("error", ""));

    /* A journal that cannot be read is set aside, once. */
    close_room();
    write_file("continuity/config.work/change.json", "{", 0600);
    open_room();
    UNTIL(access(path_of("continuity/config.work/change.json"), F_OK) == -1);
    settle();
}

static void a_history_that_cannot_be_kept_is_an_alert(void **state)
{
    (void)state;
    close_room();
    write_file("continuity/config", "in the way", 0600);
    open_room();
    UNTIL(town.raised == 1);
    assert_string_equal(town.alert, "config/history");
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    order("config_history", &m);
    assert_int_equal(town.status, CONFIG_UNAVAILABLE);
    assert_int_equal(unlink(path_of("continuity/config")), 0);
    settle();
    UNTIL(town.resolved == 1);
    assert_int_equal(town.state->open_alerts, 0);
}

static void pages_of_history_follow_each_other(void **state)
{
    (void)state;
    settle();
    char reason[1000];
    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    enum { MORE = 40 };
    for (int i = 0; i < MORE; i++) { /* long reasons: not all fit into one answer */
        struct config_text t = {.text = (char *)settings_text(i % 2 ? "info" : "debug", "")};
        t.len = strlen(t.text);
        sha256_text(t.text, t.len, t.sha256);
        hand_change(t.text);
        config_room_settled(town.room);
        config_room_commit(town.room, &t, NULL, "many", reason, NULL);
        UNTIL(!town.room->committing);
    }
    size_t n = 0, pages = 0;
    char after[CONFIG_GIT_ID] = "", last[CONFIG_GIT_ID] = "";
    do {
        const PB(ConfigHistory) *h = ask_history(after);
        assert_true(h->n_commits > 0);
        assert_string_not_equal(h->commits[0]->commit, last); /* each once */
        snprintf(last, sizeof last, "%s", h->commits[h->n_commits - 1]->commit);
        snprintf(after, sizeof after, "%s", h->next);
        n += h->n_commits;
        pages++;
    } while (*after);
    assert_int_equal(n, MORE + 1);
    assert_true(pages > 1);
}

static void parts_are_checked(void **state)
{
    (void)state;
    settle();
    char sha[SHA256_TEXT];
    sha256_text("abcd", 4, sha);
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    m.sha256 = sha;
    m.bytes = 4;
    m.data = (ProtobufCBinaryData){.data = (uint8_t *)"ab", .len = 2};
    m.offset = 2; /* the first part is missing */
    order("config_put", &m);
    assert_int_equal(town.status, CONFIG_INVALID);
    m.offset = 0;
    order("config_put", &m);
    assert_int_equal(town.status, CONFIG_OK);
    m.offset = 2;
    order("config_put", &m); /* not what the hash says */
    assert_int_equal(town.status, CONFIG_INVALID);
    m.offset = 3;
    order("config_put", &m); /* beyond its end */
    assert_int_equal(town.status, CONFIG_INVALID);
    m.offset = UINT64_MAX;
    order("config_put", &m);
    assert_int_equal(town.status, CONFIG_INVALID);
    m.offset = 0;
    m.bytes = UINT64_MAX;
    order("config_put", &m);
    assert_int_equal(town.status, CONFIG_INVALID);
    m.bytes = 4;
    m.sha256 = "../../etc/passwd";
    order("config_put", &m);
    assert_int_equal(town.status, CONFIG_INVALID);
    /* Only so many are kept; the newest is among them. */
    m.bytes = 4;
    for (int i = 0; i < 20; i++) {
        char name[8];
        int n = snprintf(name, sizeof name, "%d", i);
        sha256_text(name, (size_t)n, sha);
        m.sha256 = sha;
        order("config_put", &m);
        assert_int_equal(town.status, CONFIG_OK);
    }
    char path[700];
    config_ask_path(town.room, sha, path, sizeof path);
    assert_int_equal(access(path, F_OK), 0);
    int kept = 0;
    DIR *d = opendir(town.room->work);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));)
        kept += strncmp(f->d_name, "put-", 4) == 0;
    closedir(d);
    assert_int_equal(kept, 8);
}

static bool bundled;
static char bundle_path[1024];

static void on_bundled(void *ctx, const char *path, const char *error)
{
    (void)ctx;
    assert_string_equal(error, "");
    snprintf(bundle_path, sizeof bundle_path, "%s", path);
    bundled = true;
}

static void a_bundle_holds_everything(void **state)
{
    (void)state;
    settle();
    assert_int_equal(apply(settings_text("debug", ""), (struct how){0}), CONFIG_OK);
    bundled = false;
    config_room_bundle(town.room, KIT_DIR, on_bundled, NULL);
    UNTIL(bundled);
    char to[700];
    snprintf(to, sizeof to, "%s/copy", KIT_DIR);
    struct harness_proc *clone = harness_run_later(
        harness, "clone", 0, (const char *const[]){"git", "clone", "--quiet", "-b", "main", bundle_path, to, NULL});
    harness_start(clone);
    UNTIL(!harness_alive(clone));
    assert_string_equal(read_file("copy/redoubt.yaml"), settings_text("debug", ""));

    config_room_verified(town.room, 1234);
    assert_int_equal(town.state->verified_point_unix_ms, 1234);
    config_room_verified(town.room, 1000); /* never back */
    assert_int_equal(town.state->verified_point_unix_ms, 1234);
}

static void the_baseline_belongs_to_it(void **state)
{
    (void)state;
    settle();
    char text[1024];
    write_file("base.yaml", "one\n", 0600);
    write_file("base.yaml.signoff", "by ada\n", 0600);
    snprintf(text, sizeof text, "baseline: {path: %s/base.yaml}\n", KIT_DIR);
    hand_change(text);
    UNTIL(*town.room->tip.baseline);
    char first[CONFIG_GIT_ID];
    snprintf(first, sizeof first, "%s", town.room->tip.id);
    write_file("base.yaml.signoff", "by bob\n", 0600);
    UNTIL(strcmp(town.room->tip.id, first) != 0);
    assert_string_equal(town.state->reason, "security baseline changed in place");
    close_room();
    open_room();
    settle();
    snprintf(first, sizeof first, "%s", town.room->tip.id);
    for (int i = 0; i < 5; i++)
        tick();
    assert_string_equal(town.room->tip.id, first); /* known again */
}

/* At every moment of a change: nothing comes any more, nothing is leaked, who asked is told. */
static void closing_is_possible_at_any_time(void **state)
{
    (void)state;
    settle();
    for (int turns = 0; turns < 26; turns += 2) {
        char sha[SHA256_TEXT], text[100];
        snprintf(text, sizeof text, "log: {level: %s}\n# %d\n", turns % 4 ? "debug" : "warn", turns);
        put(text, 1000, sha);
        PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
        m.by = "ada";
        m.reason = "again";
        m.sha256 = sha;
        m.from = town.room->tip.id;
        order("config_apply", &m);
        for (int i = 0; i < turns && !town.answered; i++)
            turn(1);
        close_room();
        assert_true(town.answered);
        turn(2);
        open_room();
        UNTIL(town.room->ready && !town.room->change && !town.room->committing);
        UNTIL(access(path_of("continuity/config.work/change.json"), F_OK) == -1);
        settle();
        town.answered = true;
    }
    char sha[SHA256_TEXT];
    UNTIL(sha256_file(path_of("redoubt.yaml"), sha) && strcmp(sha, town.room->tip.sha256) == 0);
    assert_int_equal(town.raised, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, town_open, town_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_start_is_the_first_version),
        TEST(a_change_by_hand_is_accepted_if_it_is_right),
        TEST(an_open_alert_is_handed_over),
        TEST(what_is_being_written_is_not_judged),
        TEST(apply_writes_what_was_handed_in),
        TEST(apply_refuses),
        TEST(secrets_stay_out),
        TEST(versions_are_compared),
        TEST(a_kill_is_finished_or_undone),
        TEST(a_history_that_cannot_be_kept_is_an_alert),
        TEST(pages_of_history_follow_each_other),
        TEST(parts_are_checked),
        TEST(a_bundle_holds_everything),
        TEST(the_baseline_belongs_to_it),
        TEST(closing_is_possible_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
