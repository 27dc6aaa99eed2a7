/* test_continuity_backup.c - backups with the real restic: saved, proven, tested, tidied up; and every way in which that fails. The room around them is this test: its clock goes as it says. */
#include "../harness.h"
#include "audit/audit_log.h"
#include "audit/audit_verify.h"
#include "common/log.h"
#include "common/restic.h"
#include "continuity/backup_impl.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MINUTE  INT64_C(60000)
#define HOUR    (60 * MINUTE)
#define DAY     (24 * HOUR)
#define RUNS_MS 60000 /* the generous limit of one run */

/* ---- a town: a room that only notes what it is told ---- */

struct alert {
    char what[200], detail[900];
    int raised, resolved;
    bool open;
};
struct continuity {
    struct service s;
    struct set_continuity *set;
    int64_t now_ms;
    struct alert alerts[64];
    size_t n_alerts;
    bool trail_away; /* strict records cannot be made durable */
    size_t announced, demonstrated;
    int64_t shown_ms;
    unsigned signal; /* condition of the last one */
    int signals;
    char records[32768];
    char dir[600];
    bool leads;
};
static struct continuity room;
static struct town {
    struct harness *h;
    const char *dir;
    struct backups *b;
    uint8_t *docs[8]; /* the last of each source, packed */
    size_t lens[8];
    char names[8][65];
    size_t n_docs;
    char reply[1100];
    int reply_status, replies;
} town;

#define KIT_DIR town.dir
#include "file_kit.h"

struct service *continuity_service_of(struct continuity *c)
{
    return &c->s;
}

const struct set_continuity *continuity_set(const struct continuity *c)
{
    return c->set;
}

int64_t continuity_now_ms(const struct continuity *c)
{
    return c->now_ms;
}

uint64_t continuity_fence(const struct continuity *c)
{
    (void)c;
    return 7;
}

bool continuity_leads(const struct continuity *c)
{
    return c->leads;
}

const char *continuity_dir(const struct continuity *c)
{
    return c->dir;
}

void continuity_announce(struct continuity *c, const char *subject, uint64_t revision, const void *message)
{
    struct err e = {""};
    const PB(BackupState) *d = message;
    size_t i = 0;
    assert_int_equal(revision, d->revision);
    assert_non_null(strstr(subject, d->source));
    while (i < town.n_docs && strcmp(town.names[i], d->source) != 0)
        i++;
    town.n_docs = i == town.n_docs ? i + 1 : town.n_docs;
    snprintf(town.names[i], sizeof town.names[i], "%s", d->source);
    free(town.docs[i]);
    town.docs[i] = wire_pack(message, &town.lens[i], &e);
    if (!town.docs[i])
        fail_msg("%s", e.text);
    c->announced++;
}

void continuity_alert(struct continuity *c, const char *what, int severity, bool resolved, const char *agent,
                      const char *summary, const char *detail)
{
    size_t i = 0;
    assert_true(severity > 0 && *summary && agent);
    while (i < c->n_alerts && strcmp(c->alerts[i].what, what) != 0)
        i++;
    assert_true(i < 64);
    c->n_alerts = i == c->n_alerts ? i + 1 : c->n_alerts;
    struct alert *a = &c->alerts[i];
    assert_true(a->open == resolved); /* raised once, resolved once */
    a->open = !resolved;
    a->raised += !resolved;
    a->resolved += resolved;
    snprintf(a->what, sizeof a->what, "%s", what);
    snprintf(a->detail, sizeof a->detail, "%s", detail);
}

void continuity_record(struct continuity *c, const char *action, const char *actor, const char *subject, int outcome,
                       const char *detail)
{
    size_t n = strlen(c->records);
    snprintf(c->records + n, sizeof c->records - n, "%s %s %s %d %s\n", action, actor, subject, outcome, detail);
}

struct strict {
    struct continuity *c;
    outbox_cb then;
    void *ctx;
};

static void on_strict(void *ctx)
{
    struct strict *s = ctx;
    s->then(s->ctx, s->c->trail_away ? -1 : 0, s->c->trail_away ? "the disk is full" : "");
    free(s);
}

void continuity_record_strict(struct continuity *c, const char *action, const char *actor, const char *subject,
                              const char *detail, outbox_cb then, void *ctx)
{
    struct strict *s = malloc(sizeof *s);
    assert_non_null(s);
    *s = (struct strict){c, then, ctx};
    continuity_record(c, action, actor, subject, 1, detail);
    loop_defer(&c->s.loop, on_strict, s);
}

void continuity_demonstrated(struct continuity *c, enum set_objective o, const char *scope, int64_t took_ms,
                             const char *by)
{
    assert_int_equal(o, SET_RTO_DATA);
    assert_true(*scope && strstr(by, scope));
    c->demonstrated++;
    c->shown_ms = took_ms;
}

void continuity_signal(struct continuity *c, const struct signal *s)
{
    assert_int_equal(s->dimension, SIGNAL_DATA);
    c->signal = s->condition;
    c->signals++;
}

struct config_room *continuity_config(const struct continuity *c)
{
    return (struct config_room *)c; /* is only handed on */
}

void config_room_verified(struct config_room *r, int64_t point_ms)
{
    (void)r;
    (void)point_ms;
}

static struct bundle {
    void (*cb)(void *ctx, const char *path, const char *error);
    void *ctx;
} bundle;

static void on_bundle(void *ctx)
{
    (void)ctx;
    bundle.cb(bundle.ctx, path_of("bundle"), "");
}

void config_room_bundle(struct config_room *r, const char *dir,
                        void (*cb)(void *ctx, const char *path, const char *error), void *ctx)
{
    char command[3000];
    (void)r;
    snprintf(command, sizeof command, "cd '%s/git' && git bundle create -q '%s/config.bundle' main", town.dir, dir);
    assert_int_equal(system(command), 0);
    bundle = (struct bundle){cb, ctx};
    loop_defer(&room.s.loop, on_bundle, NULL);
}

/* ---- what tests do ---- */

__attribute__((format(printf, 1, 2))) static int shell(const char *fmt, ...)
{
    char command[6000];
    int n = snprintf(command, sizeof command, "cd '%s' && ", town.dir);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command + n, sizeof command - (size_t)n, fmt, ap);
    va_end(ap);
    return system(command);
}

static void turn(void)
{
    bool never = false;
    loop_run_until(&room.s.loop, &never, 5);
}

static struct set_continuity *settings_of(const char *backups)
{
    struct conf_report r = {0};
    char text[6000];
    snprintf(text, sizeof text,
             "data_dir: %s\n"
             "continuity:\n"
             "  repository: { repository: %s/repository, password_file: %s/password }\n"
             "  backups:\n%s",
             town.dir, town.dir, town.dir, backups);
    write_file("redoubt.yaml", text, 0600);
    struct settings *s = settings_load(path_of("redoubt.yaml"), &r);
    if (!s)
        fail_msg("%s", r.lines[0]);
    conf_report_free(&r);
    struct settings *was = room.s.settings;
    room.s.settings = s;
    room.set = &s->continuity;
    if (was && town.b)
        backups_reload(town.b);
    settings_free(was);
    return room.set;
}

static void open_backups(void)
{
    struct err e = {""};
    town.b = backups_open(&room, &e);
    if (!town.b)
        fail_msg("%s", e.text);
    while (town.b->cleaning)
        turn();
}

static void close_backups(void)
{
    backups_close(town.b);
    town.b = NULL;
    turn();
    turn();
}

static struct backup_source *source(const char *name)
{
    for (size_t i = 0; i < town.b->n; i++)
        if (strcmp(town.b->sources[i]->set->name, name) == 0)
            return town.b->sources[i];
    fail_msg("there is no source %s", name);
    return NULL;
}

static bool running(void)
{
    for (size_t i = 0; i < town.b->n; i++)
        if (town.b->sources[i]->run)
            return true;
    return false;
}

static void wait_idle(void)
{
    int64_t until = clock_mono_ms() + RUNS_MS;
    while (running()) {
        turn();
        assert_true(clock_mono_ms() < until);
    }
}

/* Until nothing is due any more at this time. */
static void settle(void)
{
    do {
        backups_tick(town.b, room.now_ms);
        wait_idle();
        backups_tick(town.b, room.now_ms);
    } while (running());
}

static void later(int64_t ms)
{
    room.now_ms += ms;
    settle();
}

/* One act now, nothing else. */
static struct backup_source *act(const char *name, enum backup_act a)
{
    struct backup_source *x = source(name);
    assert_null(x->run);
    backup_begin(x, a);
    wait_idle();
    return x;
}

static void save_later(void)
{
    room.now_ms += 30 * MINUTE;
    act("memory", BACKUP_SAVE);
}

static const PB(BackupState) * state_of(const char *name)
{
    const PB(BackupState) * all[8];
    size_t n = backups_states(town.b, all, 8);
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i]->source, name) == 0)
            return all[i];
    fail_msg("nothing is known of %s", name);
    return NULL;
}

static bool is_told(const char *what)
{
    char key[200];
    snprintf(key, sizeof key, "backup/%s", what);
    for (size_t i = 0; i < room.n_alerts; i++)
        if (strcmp(room.alerts[i].what, key) == 0)
            return room.alerts[i].open;
    return false;
}

static void says(const char *name, const char *text)
{
    if (!strstr(state_of(name)->error, text))
        fail_msg("%s says: %s (wanted: %s)", name, state_of(name)->error, text);
}

static int64_t point(enum set_objective o)
{
    int64_t at = -1, expected = -1;
    const char *who = "";
    assert_true(backups_point(town.b, o, &at, &expected, &who));
    assert_true(expected > 0 && *who);
    return at;
}

static void forget_calls(void)
{
    unlink(path_of("calls"));
}

static bool called(const char *what)
{
    return strstr(read_file("calls"), what) != NULL;
}

/* Behind this name stands restic; a file `trap` is a script that is run before it, when its arguments have what `trap.when` says. Where a file `fake` lies it is
 * something quicker that copies: for what does not depend on restic. */
static const char before_restic[] =
    "#!/bin/sh\n"
    "D='%s'\n"
    "echo \"$*\" >> \"$D/calls\"\n"
    "if [ -e \"$D/trap\" ]; then case \"$*\" in *\"$(cat \"$D/trap.when\")\"*) . \"$D/trap\";; esac; fi\n"
    "[ -e \"$D/fake\" ] || exec \"$D/real\" \"$@\"\n"
    "S=$D/store tags= paths= target=\n"
    "while [ \"${1#--}\" != \"$1\" ]; do shift; done\n"
    "command=$1 id=$2\n"
    "shift\n"
    "while [ $# -gt 0 ] && [ \"$1\" != -- ]; do case \"$1\" in --tag=*) tags=\"$tags,\\\"${1#--tag=}\\\"\";; "
    "--target=*) target=${1#*=};; esac; shift; done\n"
    "case \"$command\" in\n"
    "init) mkdir -p \"$RESTIC_REPOSITORY\" \"$S\" && : > \"$RESTIC_REPOSITORY/config\";;\n"
    "snapshots) echo \"[$(cat \"$S\"/*.json 2> /dev/null | paste -sd, -)]\";;\n"
    "forget) rm -rf \"$S/$id\" \"$S/$id.json\";;\n"
    "restore) mkdir -p \"$target\" && cp -a \"$S/$id/.\" \"$target\";;\n"
    "backup) id=$(date +%%s%%N) && mkdir \"$S/$id\" && shift\n"
    "  for p; do cp -a --parents \"$p\" \"$S/$id\" || exit 1; paths=\"$paths,\\\"$p\\\"\"; done\n"
    "  echo \"{\\\"id\\\":\\\"$id\\\",\\\"paths\\\":[${paths#,}],\\\"tags\\\":[${tags#,}]}\" > \"$S/$id.json\"\n"
    "  echo "
    "\"{\\\"message_type\\\":\\\"summary\\\",\\\"snapshot_id\\\":\\\"$id\\\",\\\"total_files_processed\\\":$(find "
    "\"$S/$id\" -type f | wc -l)}\";;\n"
    "esac\n";

static void without_restic(void)
{
    write_file("fake", "", 0600);
}

static void set_trap(const char *when, const char *script)
{
    write_file("trap.when", when, 0600);
    write_file("trap", script, 0700);
}

static int open_town(void **state)
{
    (void)state;
    char text[5000];
    signal(SIGPIPE, SIG_IGN);
    log_init("redoubt", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    town.h = harness_open();
    town.dir = harness_dir(town.h);
    assert_int_equal(loop_init(&room.s.loop), 0);
    snprintf(text, sizeof text, before_restic, town.dir);
    write_file("restic", text, 0700);
    const char *real = getenv("REDOUBT_RESTIC"); /* tests/run has one whose keys are cheap */
    assert_int_equal(symlink(real ? real : RESTIC_PROGRAM, path_of("real")), 0);
    setenv("REDOUBT_RESTIC", path_of("restic"), 1);
    write_file("password", "of the repository\n", 0600);
    return 0;
}

static int close_town(void **state)
{
    (void)state;
    loop_done(&room.s.loop);
    settings_free(room.s.settings);
    for (size_t i = 0; i < town.n_docs; i++)
        free(town.docs[i]);
    harness_close(town.h);
    return 0;
}

/* A directory of learning data, a repository, a room without memory. */
static int begin(void **state)
{
    (void)state;
    room.now_ms = 1795683280000;
    room.n_alerts = 0;
    room.announced = room.demonstrated = 0;
    room.signal = 0;
    room.signals = 0;
    room.leads = true;
    room.trail_away = false;
    *room.records = '\0';
    memset(room.alerts, 0, sizeof room.alerts);
    snprintf(room.dir, sizeof room.dir, "%s/continuity", town.dir);
    assert_int_equal(
        shell("rm -rf data repository continuity trap calls fake store && mkdir -p data/sub && head -c 400000 "
              "/dev/urandom > "
              "data/large && for i in $(seq 120); do echo $i > data/sub/$i; done && echo x > \"data/[a]*\""),
        0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (town.b)
        close_backups();
    return 0;
}

static void learning(const char *more)
{
    char text[2000];
    snprintf(text, sizeof text,
             "    - { name: memory, kind: learning, agent: mcp, path: [ %s/data ], read_share: 100%%%s }\n", town.dir,
             more);
    settings_of(text);
    open_backups();
    backups_tick(town.b, room.now_ms); /* known from now on */
    wait_idle();
}

/* ---- it goes well ---- */

static void a_copy_is_proven_and_tested(void **state)
{
    (void)state;
    learning("");
    assert_int_equal(point(SET_RPO_LEARNING), 0);
    later(30000);
    const PB(BackupState) *s = state_of("memory");
    assert_true(s->verified_point_unix_ms == room.now_ms && s->saved_unix_ms == room.now_ms);
    assert_string_equal(s->verified_snapshot, s->snapshot);
    assert_int_equal(s->files, 122);
    assert_int_equal(s->snapshots, 1);
    assert_int_equal(s->tested_unix_ms, room.now_ms); /* at once, the first time */
    assert_true(s->test_took_ms > 0 && room.shown_ms == (int64_t)s->test_took_ms && room.demonstrated == 1);
    assert_string_equal(s->error, "");
    assert_int_equal(point(SET_RPO_LEARNING), room.now_ms);
    assert_non_null(strstr(room.records, "backup.saved continuity memory"));
    assert_non_null(strstr(room.records, "backup.tested continuity memory"));
    /* What is new is read back, and a few others; not all of it. */
    assert_int_equal(shell("sleep 0.01; echo new > data/sub/new; echo y >> \"data/[a]*\""), 0);
    forget_calls();
    later(30 * MINUTE);
    assert_true(called("--include=") && called("sub/new") && called("\\[a]\\*"));
    assert_false(called("sub/77 --include") && called("sub/78 --include") && called("sub/79 --include"));
    assert_int_equal(point(SET_RPO_LEARNING), room.now_ms);
    assert_int_equal(state_of("memory")->snapshots, 2);
    /* Within an hour structure and data are looked at. */
    later(HOUR);
    assert_true(state_of("memory")->checked_unix_ms > 0 && state_of("memory")->read_unix_ms > 0);
    assert_int_equal(room.n_alerts, 0);
    assert_int_equal(shell("test -z \"$(ls continuity/scratch continuity/staging | grep -v :)\""), 0);
    print_message("   save of %zu files: %d ms, test restore: %d ms\n", (size_t)s->files, (int)s->took_ms,
                  (int)s->test_took_ms);
}

static void who_takes_over_goes_on(void **state)
{
    (void)state;
    without_restic();
    learning("");
    later(30000);
    char snapshot[65];
    int64_t at;
    uint64_t revision;
    int turns = 20;
    /* Killed while it saves. A save that has ended by then was not killed: once more, and sooner. */
    do {
        at = point(SET_RPO_LEARNING);
        snprintf(snapshot, sizeof snapshot, "%s", state_of("memory")->verified_snapshot);
        revision = state_of("memory")->revision;
        room.now_ms += 30 * MINUTE;
        backups_tick(town.b, room.now_ms);
        assert_true(running());
        for (int i = 0; i < turns; i++)
            turn();
        turns /= 2;
    } while (!running());
    close_backups();
    assert_int_equal(shell("mkdir -p continuity/scratch/.redoubt-memory/left continuity/staging/.redoubt-x"), 0);
    open_backups();
    struct err e = {""};
    for (size_t i = 0; i < town.n_docs; i++) {
        PB(BackupState) *d = wire_unpack(PB_DESC(backup_state), town.docs[i], town.lens[i], &e);
        assert_non_null(d);
        backups_seen(town.b, d);
        wire_free(d);
    }
    assert_int_equal(shell("test -z \"$(ls -A continuity/scratch continuity/staging | grep redoubt)\""), 0);
    assert_int_equal(point(SET_RPO_LEARNING), at);
    assert_string_equal(state_of("memory")->verified_snapshot, snapshot);
    /* A standby that does not lead does nothing. */
    room.leads = false;
    backups_tick(town.b, room.now_ms);
    assert_false(running());
    room.leads = true;
    later(0);
    assert_int_equal(point(SET_RPO_LEARNING), room.now_ms);
    assert_true(state_of("memory")->revision > revision);
    assert_int_equal(room.demonstrated, 1); /* the test is not due again */
}

static void old_copies_go_but_for_the_proven_and_the_kept(void **state)
{
    (void)state;
    learning(", keep_last: 1, keep_daily: 0, keep_weekly: 0, keep_monthly: 0");
    act("memory", BACKUP_SAVE);
    struct backup_source *x = source("memory");
    char kept[65], proven[65];
    x->begun = true;
    snprintf(kept, sizeof kept, "%s", x->verified);
    assert_int_equal(shell("RESTIC_PASSWORD_FILE=password restic -q -r repository tag --add redoubt-keep %s", kept),
                     0);
    act("memory", BACKUP_SAVE); /* goes */
    act("memory", BACKUP_SAVE);
    snprintf(proven, sizeof proven, "%s", x->verified);
    assert_int_equal(shell("rm -rf data/*"), 0);
    act("memory", BACKUP_SAVE); /* of nothing: is the last, and proves nothing */
    assert_string_equal(x->verified, proven);
    act("memory", BACKUP_FORGET);
    assert_string_equal(x->error, "");
    assert_int_equal(x->snapshots, 3);
    assert_int_equal(
        shell("RESTIC_PASSWORD_FILE=password restic -q -r repository snapshots --json | grep -q %s", proven), 0);
    assert_int_equal(
        shell("RESTIC_PASSWORD_FILE=password restic -q -r repository snapshots --json | grep -q redoubt-keep"), 0);
}

/* ---- the data are not what they were ---- */

static void empty_and_shrunken_copies_do_not_count(void **state)
{
    (void)state;
    without_restic();
    learning(", test: 30d, check: 30d, read: 30d");
    act("memory", BACKUP_SAVE);
    int64_t at = point(SET_RPO_LEARNING);
    assert_int_equal(shell("truncate -s 1000 data/large"), 0);
    save_later();
    assert_true(is_told("memory/shrunken") && state_of("memory")->suspicious);
    assert_true(room.signal == CONDITION_DEGRADED && room.signals == 1);
    assert_int_equal(point(SET_RPO_LEARNING), at);
    assert_int_equal(shell("rm -rf data/*"), 0);
    save_later();
    assert_true(is_told("memory/empty") && !is_told("memory/shrunken"));
    assert_int_equal(point(SET_RPO_LEARNING), at);
    /* The directory itself is gone. */
    assert_int_equal(shell("rmdir data"), 0);
    save_later();
    says("memory", "If it is lost, restore it");
    assert_true(is_told("memory/empty") && is_told("memory/failed"));
    /* A full one again. */
    assert_int_equal(shell("mkdir data && head -c 400000 /dev/urandom > data/large"), 0);
    save_later();
    assert_false(is_told("memory/empty") || is_told("memory/failed") || is_told("memory/late"));
    assert_int_equal(point(SET_RPO_LEARNING), room.now_ms);
    assert_true(room.signal == 0 && room.signals == 2);
    assert_string_equal(state_of("memory")->error, "");
}

static void who_writes_meanwhile_is_seen(void **state)
{
    (void)state;
    char script[1200];
    without_restic();
    learning("");
    /* Once: it is saved again, and what is wrong is dropped. */
    snprintf(script, sizeof script, "rm '%s/trap'; echo late >> '%s/data/sub/5'\n", town.dir, town.dir);
    set_trap(" backup ", script);
    struct backup_source *x = act("memory", BACKUP_SAVE);
    x->begun = true;
    assert_true(x->plan.point_ms == room.now_ms && x->snapshots == 1);
    /* All the time: there is a copy, but it is not a proven one. */
    snprintf(script, sizeof script, "date +%%N >> '%s/data/sub/5'\n", town.dir);
    set_trap(" backup ", script);
    int64_t at = x->plan.point_ms;
    room.now_ms += HOUR;
    act("memory", BACKUP_SAVE);
    assert_true(x->plan.point_ms == at && x->plan.saved_ms == room.now_ms && x->snapshots == 2);
    says("memory", "saved while it was written to");
    room.now_ms += MINUTE;
    backup_judge(x, room.now_ms);
    assert_true(is_told("memory/unverified"));
    unlink(path_of("trap"));
    act("memory", BACKUP_SAVE);
    assert_false(is_told("memory/unverified"));
    assert_int_equal(x->plan.point_ms, room.now_ms);
}

/* ---- the repository is not what it was ---- */

static void damage_is_found(void **state)
{
    (void)state;
    learning("");
    act("memory", BACKUP_SAVE);
    assert_int_equal(
        shell("f=$(ls -S repository/data/*/* | head -1); chmod u+w $f; printf XXXX | dd of=$f bs=1 seek=2000 "
              "conv=notrunc 2> /dev/null"),
        0);
    struct backup_source *x = act("memory", BACKUP_READ);
    says("memory", "is damaged");
    assert_true(is_told("memory/damaged") && x->plan.point_ms > 0);
    /* A test says that the point does not hold; nothing new is believed either, since the same blocks are in it. */
    act("memory", BACKUP_TEST);
    assert_int_equal(x->plan.point_ms, 0);
    assert_int_equal(point(SET_RPO_LEARNING), 0);
    act("memory", BACKUP_SAVE);
    assert_int_equal(x->plan.point_ms, 0);
    /* Another repository: everything anew. */
    char text[1000];
    snprintf(
        text, sizeof text,
        "    - { name: memory, kind: learning, path: [ %s/data ], to: { repository: %s/repository/2, password_file: "
        "%s/password } }\n",
        town.dir, town.dir, town.dir);
    settings_of(text);
    later(MINUTE);
    assert_int_equal(point(SET_RPO_LEARNING), room.now_ms);
    assert_false(is_told("memory/damaged") || is_told("memory/failed") || is_told("memory/unverified"));
    assert_string_equal(state_of("memory")->error, "");
}

static void a_copy_that_was_changed_is_found(void **state)
{
    (void)state;
    learning("");
    act("memory", BACKUP_SAVE);
    struct backup_source *x = source("memory");
    /* Somebody who has the password puts other data under the same tags. */
    assert_int_equal(
        shell("export RESTIC_PASSWORD_FILE=password; echo other > data/large && "
              "t=$(restic -q -r repository snapshots --json | grep -o '\"[a-z]*=[^\"]*\"' | tr -d '\"' | sed "
              "'s/^/--tag=/') && "
              "restic -q -r repository forget latest && restic -q -r repository backup --host=redoubt "
              "--tag=redoubt $t \"$PWD/data\""),
        0);
    assert_int_equal(shell("RESTIC_PASSWORD_FILE=password restic -q -r repository snapshots --json | grep -o "
                           "'\"short_id\":\"[0-9a-f]*' | cut -d'\"' -f4 > id"),
                     0);
    char id[65];
    snprintf(id, sizeof id, "%.8s", read_file("id"));
    act("memory", BACKUP_TEST);
    assert_true(is_told("memory/gone") && x->plan.point_ms == 0); /* it is another snapshot */
    snprintf(x->verified, sizeof x->verified, "%s", id);
    x->plan.point_ms = room.now_ms;
    act("memory", BACKUP_TEST);
    assert_true(is_told("memory/differs") && x->plan.point_ms == 0 && room.signal == CONDITION_DEGRADED);
    says("memory", "came back with another hash");
    assert_int_equal(shell("head -c 400000 /dev/urandom > data/large"), 0);
    act("memory", BACKUP_SAVE);
    assert_true(is_told("memory/differs"));
    act("memory", BACKUP_TEST);
    assert_false(is_told("memory/differs") || is_told("memory/gone"));
    assert_int_equal(room.signal, 0);
}

static void deleted_copies_are_missed(void **state)
{
    (void)state;
    learning("");
    later(30000);
    assert_int_equal(shell("rm -f repository/snapshots/*"), 0);
    later(30 * MINUTE);
    assert_true(point(SET_RPO_LEARNING) == room.now_ms); /* the new one stands for it */
    assert_non_null(strstr(room.records, "backup.saved"));
    bool told = false;
    for (size_t i = 0; i < room.n_alerts; i++)
        told |= strcmp(room.alerts[i].what, "backup/memory/gone") == 0 && room.alerts[i].raised == 1;
    assert_true(told);
    later(MINUTE);
    assert_false(is_told("memory/gone")); /* a test has passed */
    /* The whole repository: more likely a disk that is not mounted. */
    assert_int_equal(shell("mv repository away"), 0);
    later(30 * MINUTE);
    says("memory", "Is its disk mounted?");
    assert_true(is_told("memory/failed") && access(path_of("repository"), F_OK) != 0);
    assert_int_equal(shell("mv away repository"), 0);
    later(HOUR);
    assert_false(is_told("memory/failed"));
}

static void passwords_and_locks_are_explained(void **state)
{
    (void)state;
    learning("");
    act("memory", BACKUP_SAVE);
    /* A lock that a killed restic has left. */
    assert_int_equal(
        shell("export RESTIC_PASSWORD_FILE=password; rm -f hold; mkfifo hold; restic -q -r repository backup --stdin "
              "< hold & p=$!; exec 9> hold; i=0; while [ $i -lt 400 ] && [ -z \"$(ls repository/locks)\" ]; do "
              "i=$((i+1)); sleep 0.05; done; kill -9 $p; wait $p; test -n \"$(ls repository/locks)\""),
        0);
    struct backup_source *x = act("memory", BACKUP_CHECK); /* wants it for itself */
    assert_string_equal(x->error, "");
    write_file("password", "another\n", 0600);
    room.now_ms += HOUR;
    act("memory", BACKUP_SAVE);
    says("memory", "was made with another password than continuity.repository.password_file has");
    assert_true(is_told("memory/failed"));
    /* No error, no copy: the clock says so. */
    room.now_ms += 2 * HOUR;
    backup_judge(x, room.now_ms);
    assert_true(is_told("memory/late"));
    write_file("password", "of the repository\n", 0600);
    act("memory", BACKUP_SAVE);
    assert_false(is_told("memory/failed") || is_told("memory/late"));
    settings_of("    - { name: memory, kind: learning, path: [ /nonexistent ], to: { repository: /x, password_file: "
                "/y } }\n");
    act("memory", BACKUP_SAVE);
    assert_true(is_told("memory/empty"));
    settings_of("    - { name: other, kind: files, path: [ / ] }\n"); /* nobody asks for it: its alerts are over */
    assert_false(is_told("memory/empty") || is_told("memory/failed"));
    assert_int_equal(room.signal, 0);
}

/* ---- the trail and the configuration ---- */

struct trail {
    struct audit_log *log;
    size_t out;
    bool idle, closed;
};

static void on_append(void *ctx, uint64_t seq, const char *error)
{
    struct trail *t = ctx;
    (void)error;
    assert_true(seq > 0);
    t->idle = --t->out == 0;
}

static void append(struct trail *t, int n)
{
    char text[900];
    memset(text, 'x', sizeof text);
    t->idle = false;
    t->out = (size_t)n;
    for (int i = 0; i < n; i++)
        audit_log_append(t->log, text, sizeof text, on_append, t);
}

static void on_closed(void *ctx)
{
    ((struct trail *)ctx)->closed = true;
}

static void a_trail_is_saved_while_it_is_written(void **state)
{
    (void)state;
    struct trail t = {0};
    struct err e = {""};
    struct audit_log_found found;
    char dir[600];
    assert_int_equal(shell("rm -rf audit && mkdir -p audit/0"), 0);
    snprintf(dir, sizeof dir, "%s/audit/0", town.dir);
    t.log = audit_log_open(&room.s.loop, &(struct audit_log_opts){.dir = dir, .segment_bytes = 20000}, &found, &e);
    if (!t.log)
        fail_msg("%s", e.text);
    append(&t, 100);
    assert_true(loop_run_until(&room.s.loop, &t.idle, RUNS_MS));
    audit_log_checkpoint(t.log);
    settings_of("    - { name: trail, kind: audit, read_share: 100% }\n");
    open_backups();
    struct backup_source *x = source("trail");
    for (int i = 0; i < 3; i++) { /* it goes on while it is copied */
        backup_begin(x, BACKUP_SAVE);
        append(&t, 60);
        wait_idle();
        assert_true(loop_run_until(&room.s.loop, &t.idle, RUNS_MS));
        assert_string_equal(x->error, "");
        assert_int_equal(x->plan.point_ms, room.now_ms);
        audit_log_checkpoint(t.log);
        room.now_ms += 150000;
    }
    x->begun = true;
    assert_int_equal(point(SET_RPO_AUDIT), room.now_ms - 150000);
    act("trail", BACKUP_TEST);
    assert_string_equal(x->error, "");
    assert_int_equal(room.demonstrated, 1);
    audit_log_close(t.log, on_closed, &t);
    assert_true(loop_run_until(&room.s.loop, &t.closed, RUNS_MS));
    /* Somebody changes what was written long ago: the copy is what was there, but it is not good. */
    assert_int_equal(
        shell("f=$(ls audit/0/*.seg | head -1); printf y | dd of=$f bs=1 seek=500 conv=notrunc 2> /dev/null"), 0);
    close_backups();
    open_backups(); /* does not know what was proven: reads all of it back */
    x = act("trail", BACKUP_SAVE);
    assert_int_equal(x->plan.point_ms, 0);
    x->begun = true;
    if (!strstr(x->error, "trail 0 has"))
        fail_msg("%s", x->error);
}

static void a_configuration_is_saved_as_a_bundle(void **state)
{
    (void)state;
    assert_int_equal(shell("rm -rf git && git init -q -b main git && cd git && for i in 1 2 3; do echo $i > "
                           "redoubt.yaml && git add . && "
                           "git -c user.name=a -c user.email=a@b commit -qm $i; done"),
                     0);
    settings_of("    - { name: config, kind: config }\n");
    open_backups();
    backups_tick(town.b, room.now_ms);
    later(30000);
    assert_string_equal(state_of("config")->error, "");
    assert_int_equal(point(SET_RPO_CONFIG), room.now_ms);
    assert_int_equal(room.demonstrated, 1);
    assert_int_equal(room.n_alerts, 0);
}

/* ---- orders ---- */

static void on_reply(void *ctx, const struct bus_msg *m)
{
    struct err e = {""};
    PB(CommandReply) *r = wire_unpack(PB_DESC(command_reply), m->data, m->len, &e);
    (void)ctx;
    assert_non_null(r);
    town.replies++;
    town.reply_status = (int)r->status;
    snprintf(town.reply, sizeof town.reply, "%s", r->message);
    wire_free(r);
}

static void order(const char *verb, PB(ContinuityCommand) cmd, int status, const char *text)
{
    int was = town.replies;
    int64_t until = clock_mono_ms() + HARNESS_WAIT_MS;
    backups_command(town.b, verb, &cmd, "redoubt.test.reply");
    while (town.replies == was && clock_mono_ms() < until)
        turn();
    if (town.replies == was || town.reply_status != status || !strstr(town.reply, text))
        fail_msg("%s: %d `%s` (wanted %d, %s)", verb, town.reply_status, town.reply, status, text);
}

static void open_bus(void)
{
    struct err e = {""};
    struct harness_proc *nats = harness_nats(town.h, "nats", NULL);
    room.s.bus = bus_open(
        &room.s.loop,
        &(struct bus_opts){.url = nats->url, .name = "test", .inbox_prefix = "_INBOX_test", .guest = true}, &e);
    if (!room.s.bus)
        fail_msg("%s", e.text);
    assert_non_null(bus_subscribe(room.s.bus, "redoubt.test.reply", NULL, on_reply, NULL));
    int64_t until = clock_mono_ms() + HARNESS_WAIT_MS;
    while (!bus_up(room.s.bus)) {
        turn();
        assert_true(clock_mono_ms() < until);
    }
}

static void on_bus_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void close_bus(void)
{
    bool closed = false;
    bus_close(room.s.bus, 2000, on_bus_closed, &closed);
    assert_true(loop_run_until(&room.s.loop, &closed, HARNESS_WAIT_MS));
    room.s.bus = NULL;
}

static void orders_are_recorded_before_they_are_done(void **state)
{
    (void)state;
    open_bus();
    without_restic();
    learning(", test: 30d");
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    cmd.name = (char *)"nothing";
    order("backup", cmd, 3, "there are: memory");
    cmd.name = (char *)"memory";
    order("backup", cmd, 3, "is missing");
    cmd.by = (char *)"alice";
    cmd.reason = (char *)"before the move";
    order("test", cmd, 4, "no proven copy");
    cmd.dry_run = true;
    order("backup", cmd, 1, "would begin a copy");
    cmd.dry_run = false;
    room.trail_away = true;
    order("backup", cmd, 4, "nothing was done");
    room.trail_away = false;
    assert_null(source("memory")->run);
    order("backup", cmd, 1, "begins");
    assert_non_null(strstr(room.records, "backup.ordered alice memory 1 before the move"));
    settle();
    int64_t at = point(SET_RPO_LEARNING);
    assert_int_equal(at, room.now_ms);
    assert_int_equal(shell("rm data/large"), 0);
    room.now_ms += MINUTE;
    order("backup", cmd, 1, "begins");
    settle();
    assert_true(is_told("memory/shrunken") && point(SET_RPO_LEARNING) == at);
    cmd.force = true;
    room.now_ms += MINUTE;
    order("backup", cmd, 1, "begins");
    settle();
    assert_true(!is_told("memory/shrunken") && point(SET_RPO_LEARNING) == room.now_ms);
    size_t shown = room.demonstrated;
    order("test", cmd, 1, "a test restore of `memory` begins");
    settle();
    assert_int_equal(room.demonstrated, shown + 1);
    close_backups();
    close_bus();
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_copy_is_proven_and_tested),
        TEST(who_takes_over_goes_on),
        TEST(old_copies_go_but_for_the_proven_and_the_kept),
        TEST(empty_and_shrunken_copies_do_not_count),
        TEST(who_writes_meanwhile_is_seen),
        TEST(damage_is_found),
        TEST(a_copy_that_was_changed_is_found),
        TEST(deleted_copies_are_missed),
        TEST(passwords_and_locks_are_explained),
        TEST(a_trail_is_saved_while_it_is_written),
        TEST(a_configuration_is_saved_as_a_bundle),
        TEST(orders_are_recorded_before_they_are_done),
    };
    return cmocka_run_group_tests(tests, open_town, close_town);
}
