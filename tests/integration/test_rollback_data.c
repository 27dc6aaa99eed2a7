/* test_rollback_data.c - learning data with the real restic: saved while the writer pauses, compared, restored, kept; and every way in which that fails. */
#include "../harness.h"
#include "common/log.h"
#include "common/restic.h"
#include "rollback/rollback_data.h"
#include <arpa/inet.h>
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a town: a service without a bus, one deployment, a script for the writer, another that stands before restic ---- */

struct answer {
    bool came, ok, lasting, paused;
    char text[600];
    struct rollback_lineage lineage;
};
struct town {
    struct harness *h;
    const char *dir;
    struct service s;
    struct data *d;
};
static struct town town;

#define KIT_DIR town.dir
#include "file_kit.h"

static bool is_there(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

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

static void settle(void)
{
    bool never = false;
    loop_run_until(&town.s.loop, &never, 5);
}

static void close_data(void)
{
    data_close(town.d);
    town.d = NULL;
    settle();
    if (town.s.settings)
        settings_free(town.s.settings);
    town.s.settings = NULL;
}

/* `more` are further settings of `data`; "" for repository = the town's own. */
static void open_data(const char *repository, const char *more)
{
    struct conf_report r = {0};
    struct err e = {""};
    char text[6000];
    close_data();
    snprintf(text, sizeof text,
             "rollback:\n"
             "  exec_allowed: [ %s/pause, %s/resume ]\n"
             "  deployments:\n"
             "    - name: agent\n"
             "      executor: docker\n"
             "      docker: { container: agent }\n"
             "      data:\n"
             "        repository: \"%s\"\n"
             "        password_file: %s/password\n"
             "        stream: \"\"\n"
             "%s",
             town.dir, town.dir, *repository ? repository : path_of("repository"), town.dir, more);
    write_file("redoubt.yaml", text, 0600);
    town.s.settings = settings_load(path_of("redoubt.yaml"), &r);
    if (!town.s.settings)
        fail_msg("%s", r.lines[0]);
    conf_report_free(&r);
    town.d = data_open(&town.s, CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0), &e);
    if (!town.d)
        fail_msg("%s", e.text);
}

/* Pausing by programs, which note what they were called with; the settings of most tests. */
static const char *with_pause(const char *more)
{
    static char text[2000];
    snprintf(text, sizeof text,
             "        path: [ \"%s/da ta\" ]\n"
             "        pause: [ %s/pause, \"{{address}}\" ]\n"
             "        resume: [ %s/resume, \"{{address}}\" ]\n"
             "        read_back: 0%%\n"
             "%s",
             town.dir, town.dir, town.dir, more);
    return text;
}

static void on_data(void *ctx, const struct data_result *r)
{
    struct answer *a = ctx;
    assert_false(a->came);
    *a = (struct answer){true, r->ok, r->lasting, r->paused, "", r->lineage};
    snprintf(a->text, sizeof a->text, "%s", r->text ? r->text : "");
}

static void await(struct answer *a)
{
    assert_true(loop_run_until(&town.s.loop, &a->came, 60000));
}

static const char *const one[] = {"127.0.0.1:1", "127.0.0.1:2"};

static struct answer save(const char *job, bool stay_paused)
{
    struct answer a = {0};
    data_save(town.d, job, "0123456789abcdef", "before rollback", stay_paused, one, 2, on_data, &a);
    await(&a);
    return a;
}

static struct answer restore(const char *job, const char *snapshot)
{
    struct answer a = {0};
    data_restore(town.d, job, snapshot, one, 2, on_data, &a);
    await(&a);
    return a;
}

static struct answer check(void)
{
    struct answer a = {0};
    data_check(town.d, on_data, &a);
    await(&a);
    return a;
}

static void is_ok(const struct answer *a)
{
    if (!a->ok)
        fail_msg("%s", a->text);
}

static void has_failed(const struct answer *a, bool lasting, const char *text)
{
    if (a->ok || a->lasting != lasting || !strstr(a->text, text))
        fail_msg("ok %d, lasting %d: %s (wanted: %s)", a->ok, a->lasting, a->text, text);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *s = strstr(text, what); s; s = strstr(s + 1, what))
        n++;
    return n;
}

/* What was asked of the writers: they go on, all of them, and that came last. */
static void all_go_on(void)
{
    const char *said = read_file("writer");
    const char *first = strstr(said, "resume 127.0.0.1:1"), *second = strstr(said, "resume 127.0.0.1:2");
    assert_non_null(first);
    assert_non_null(second);
    for (const char *s = strstr(said, "pause"); s; s = strstr(s + 1, "pause"))
        assert_true(s < strstr(said, "resume"));
}

static void forget_writer(void)
{
    unlink(path_of("writer"));
}

/* Behind this name stands restic; a file `trap` is a script that is run before it, once for each line of `trap.when` that its arguments have. */
static void set_trap(const char *when, const char *script)
{
    write_file("trap.when", when, 0600);
    write_file("trap", script, 0700);
}

static const char before_restic[] =
    "#!/bin/sh\n"
    "D='%s'\n"
    "fake() {\n"
    "  while [ \"${1#--}\" != \"$1\" ]; do shift; done\n"
    "  case \"$1\" in\n"
    "  snapshots) echo '[]';;\n"
    "  backup) while [ \"$1\" != -- ]; do shift; done; shift; mkdir -p \"$D/store\"; id=0000000$(ls \"$D/store\" | "
    "wc -l); mkdir \"$D/store/$id\"\n"
    "    for p; do cp -a --parents \"$p\" \"$D/store/$id\"; done; echo "
    "\"{\\\"message_type\\\":\\\"summary\\\",\\\"snapshot_id\\\":\\\"$id\\\"}\";;\n"
    "  restore) mkdir -p \"${3#*=}\"; cp -a \"$D/store/$2/.\" \"${3#*=}\";;\n"
    "  esac\n"
    "}\n"
    "really() { if [ -e \"$D/fake\" ]; then fake \"$@\"; else \"$D/real\" \"$@\"; fi; }\n"
    "echo \"$*\" >> \"$D/calls\"\n"
    "if [ -e \"$D/trap\" ]; then case \"$*\" in *\"$(cat \"$D/trap.when\")\"*) mv \"$D/trap\" \"$D/sprung\"; . "
    "\"$D/sprung\";; esac; fi\n"
    "[ -e \"$D/fake\" ] || exec \"$D/real\" \"$@\"\n"
    "fake \"$@\"\n";

/* What does not depend on restic is shown with something that is quicker, and copies. */
static void without_restic(bool so)
{
    if (so)
        write_file("fake", "", 0600);
    else
        unlink(path_of("fake"));
}

static int open_town(void **state)
{
    (void)state;
    struct err e = {""};
    char text[4000];
    signal(SIGPIPE, SIG_IGN);
    log_init("redoubt", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    town.h = harness_open();
    town.dir = harness_dir(town.h);
    assert_int_equal(loop_init(&town.s.loop), 0);
    town.s.http = http_open(&town.s.loop, &e);
    assert_non_null(town.s.http);
    snprintf(town.s.replica.dir, sizeof town.s.replica.dir, "%s/replica", town.dir);
    assert_int_equal(mkdir(town.s.replica.dir, 0700), 0);
    write_file("password", "of the repository\n", 0600);
    snprintf(text, sizeof text, "#!/bin/sh\n[ -e '%s/pause.fails' ] && exit 3\necho pause $1 >> '%s/writer'\n",
             town.dir, town.dir);
    write_file("pause", text, 0700);
    snprintf(text, sizeof text,
             "#!/bin/sh\n[ -e '%s/resume.fails' ] && { rm '%s/resume.fails'; echo not yet; exit 1; }\necho resume $1 "
             ">> '%s/writer'\n",
             town.dir, town.dir, town.dir);
    write_file("resume", text, 0700);
    snprintf(text, sizeof text, before_restic, town.dir);
    write_file("restic", text, 0700);
    const char *real = getenv("REDOUBT_RESTIC"); /* tests/run has one whose keys are cheap */
    assert_int_equal(symlink(real ? real : RESTIC_PROGRAM, path_of("real")), 0);
    setenv("REDOUBT_RESTIC", path_of("restic"), 1);
    return 0;
}

static void on_http_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static int close_town(void **state)
{
    (void)state;
    bool closed = false;
    close_data();
    http_close(town.s.http, on_http_closed, &closed);
    loop_run_until(&town.s.loop, &closed, 5000);
    loop_done(&town.s.loop);
    harness_close(town.h);
    return 0;
}

/* ---- a tree with everything in it, and another way to look at it ---- */

static int make_data(void)
{
    return shell("rm -rf 'da ta' && mkdir -p 'da ta/sub/deep' && cd 'da ta' && echo small > small && head -c 3000000 "
                 "/dev/urandom > large && "
                 "truncate -s 20M sparse && printf x >> sparse && ln small sub/hard && ln -s ../small sub/symbolic "
                 "&& ln -s nowhere dangling && "
                 "mkfifo pipe && : > empty && mkdir bare && printf a > \"$(printf 'line\\nfeed')\" && printf b > "
                 "'[a]*?\\' && chmod 0400 empty && "
                 "chmod 1750 sub && touch -d '2001-02-03 04:05:06.123456789' small sub/deep && touch -h -d @1 "
                 "dangling && chmod 0751 .");
}

/* Names, kinds, modes, owners, times, links, contents, as other programs see them. */
static void describe(const char *name, const char *into)
{
    int bad = shell(
        "(cd '%s' && find . -mindepth 1 -name '.redoubt-*' -prune -o -mindepth 1 -printf '%%P %%y %%m %%U %%G %%n "
        "%%l %%T@\\n' | sort; "
        "stat -c '%%a %%u %%g' .; find . -name '.redoubt-*' -prune -o -type f -exec sha256sum {} + | sort) > '%s'",
        name, into);
    assert_int_equal(bad, 0);
}

static void same_as(const char *a, const char *b)
{
    if (shell("diff '%s' '%s' >&2", a, b) != 0)
        fail_msg("%s and %s differ", a, b);
}

static const char *only(const char *pattern)
{
    static char name[1024];
    char command[3000];
    snprintf(command, sizeof command, "cd '%s' && ls -d %s", town.dir, pattern);
    FILE *f = popen(command, "re");
    *name = '\0';
    (void)!fgets(name, sizeof name, f);
    pclose(f);
    name[strcspn(name, "\n")] = '\0';
    return name;
}

static void data_come_back_byte_for_byte(void **state)
{
    (void)state;
    char replaced[1200];
    assert_int_equal(make_data(), 0);
    bool attributes = setxattr(path_of("da ta/small"), "user.x", "y", 1, 0) == 0;
    open_data("", with_pause(""));
    CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0)->data.read_percent = 100;
    describe("da ta", "as.it.was");
    struct answer a = check();
    is_ok(&a);
    assert_false(is_there("repository")); /* nothing was changed */
    forget_writer();
    a = save("job-1", false);
    is_ok(&a);
    assert_string_equal(a.text, "");
    assert_true(a.lineage.verified);
    assert_false(a.paused);
    assert_int_equal(a.lineage.files, 7); /* with the second name of one */
    assert_int_equal(a.lineage.bytes, 6 + 3000000 + (20 << 20) + 1 + 2);
    assert_string_equal(a.lineage.job, "job-1");
    assert_string_equal(a.lineage.version, "0123456789abcdef");
    assert_string_equal(a.lineage.why, "before rollback");
    assert_true(a.lineage.taken_ms > 0);
    all_go_on();
    assert_int_equal(count(read_file("writer"), "pause"), 2);
    assert_int_equal(shell("test -z \"$(ls -A replica/data)\""), 0); /* nothing of the comparison is left */
    /* They go wrong, in every way; then come back. */
    assert_int_equal(shell("cd 'da ta' && echo evil > small && rm -rf large sub dangling && mkdir large && touch "
                           "large/new && chmod 777 ."),
                     0);
    describe("da ta", "as.it.went");
    forget_writer();
    struct answer b = restore("job-2", a.lineage.snapshot);
    is_ok(&b);
    assert_true(b.paused); /* until the newer version is stopped */
    assert_int_equal(count(read_file("writer"), "resume"), 0);
    describe("da ta", "as.it.is");
    same_as("as.it.was", "as.it.is");
    struct stat st;
    assert_int_equal(stat(path_of("da ta/sparse"), &st), 0);
    assert_true(st.st_blocks * 512 < 10 << 20);
    char x[4] = "";
    if (attributes) {
        assert_int_equal(getxattr(path_of("da ta/small"), "user.x", x, sizeof x), 1);
        assert_int_equal(*x, 'y');
    }
    snprintf(replaced, sizeof replaced, "da ta.replaced-job-2-%.8s", a.lineage.snapshot);
    describe(replaced, "as.replaced");
    same_as("as.it.went", "as.replaced");
    assert_string_equal(only(".redoubt-* 2>/dev/null"), "");
    /* Asked for again: it is done. */
    b = restore("job-2", a.lineage.snapshot);
    is_ok(&b);
    describe("da ta", "as.it.is");
    same_as("as.it.was", "as.it.is");
    b = (struct answer){0};
    data_resume(town.d, one, 2, on_data, &b);
    await(&b);
    is_ok(&b);
    assert_false(b.paused);
    assert_int_equal(count(read_file("writer"), "resume"), 2);
}

/* A snapshot gets another id when it is tagged; it is still found by its first one, and cleaning up leaves it. */
static void a_kept_snapshot_is_left_by_forget(void **state)
{
    (void)state;
    unlink(path_of("calls"));
    assert_int_equal(shell("rm -rf 'da ta' && mkdir 'da ta' && echo kept > 'da ta/f'"), 0);
    open_data("", with_pause(""));
    /* Cut short when it was saved already: what is there is found by the job, and taken. */
    set_trap("restore", "kill -9 $$");
    struct answer a = save("job-k", true), b = {0};
    has_failed(&a, false, "could not be read back");
    a = save("job-k", true);
    is_ok(&a);
    assert_true(a.lineage.verified);
    assert_true(a.paused); /* as was asked for */
    assert_non_null(strstr(a.text, "shrunk to less than half"));
    assert_int_equal(shell("test $(grep -c backup calls) -eq 1"), 0);
    data_keep(town.d, a.lineage.snapshot, true, on_data, &b);
    await(&b);
    is_ok(&b);
    b = (struct answer){0};
    data_keep(town.d, a.lineage.snapshot, true, on_data, &b); /* is kept already */
    await(&b);
    is_ok(&b);
    assert_int_equal(shell("RESTIC_PASSWORD_FILE=password restic -r repository --no-cache forget --keep-tag "
                           "redoubt-keep --prune -q >/dev/null"),
                     0);
    assert_int_equal(shell("echo changed > 'da ta/f'"), 0);
    b = restore("job-l", a.lineage.snapshot);
    is_ok(&b);
    assert_string_equal(read_file("da ta/f"), "kept\n");
    b = (struct answer){0};
    data_keep(town.d, a.lineage.snapshot, false, on_data, &b);
    await(&b);
    is_ok(&b);
    assert_int_equal(shell("test $(RESTIC_PASSWORD_FILE=password restic -r repository --no-cache snapshots --json "
                           "--tag redoubt-keep | grep -c short_id) -eq 0"),
                     0);
    b = (struct answer){0};
    data_keep(town.d, "ffffffffffff", true, on_data, &b);
    await(&b);
    has_failed(&b, true, "there is no snapshot ffffffffffff");
    b = restore("job-l", "ffffffffffff");
    has_failed(&b, true, "there is no snapshot ffffffffffff");
    assert_false(b.paused); /* it failed: the writer goes on */
}

/* restic is killed, hangs or fails at any of its runs: the writer goes on, and the next try makes it right. */
static void the_writer_always_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *when, *script, *said;
    } rows[] = {
        {"backup", "kill -9 $$", "ended by signal 9"},
        {"backup", "sleep 300", "for longer than data.pause_limit"},
        {"backup", "echo Fatal: no space left on device >&2; exit 1", "Make room"},
        {"backup", "echo not json; exit 0", "does not say which snapshot"},
        {"backup", "echo error: open x: permission denied >&2; exit 3", "not everything could be saved"},
        {"restore", "kill -9 $$", "could not be read back"},
        {"restore", "really \"$@\"; find \"${5#*=}\" -name f -exec sh -c 'echo more >> \"$1\"' x {} +; exit 0",
         "is not what was saved: /f: its content differs"},
        {"restore",
         "really \"$@\"; mkdir -p \"${5#*=}/$D/da ta\"; touch \"${5#*=}/$D/da ta/$(printf 'a\\377\\nb')\"; exit 0",
         "/a??b"},
        {"snapshots", "echo '{}'; exit 0", "cannot be read"},
    };
    assert_int_equal(shell("rm -rf 'da ta' && mkdir 'da ta' && echo text > 'da ta/f'"), 0);
    without_restic(true);
    open_data("", with_pause(""));
    struct set_rb_data *set = &CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0)->data;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        forget_writer();
        set_trap(rows[i].when, rows[i].script);
        set->pause_limit_ms = i == 1 ? 1500 : 60000;
        struct answer a = save("job-w", i % 2);
        assert_false(a.ok);
        if (!strstr(a.text, rows[i].said))
            fail_msg("row %zu: %s", i, a.text);
        assert_false(a.paused);
        if (strcmp(rows[i].when, "snapshots") != 0)
            all_go_on();
        if (i == 1)
            unlink(path_of("trap")); /* on a slow machine the limit is over before restic runs: the same end */
        assert_false(is_there("trap"));
        assert_int_equal(shell("test -z \"$(ls -A replica/data)\""), 0);
    }
    without_restic(false);
}

/* The writer itself: one that does not pause, one that goes on only when it is asked again; the service ends; its owner goes. */
static void writers_that_do_not_listen(void **state)
{
    (void)state;
    without_restic(true);
    open_data("", with_pause(""));
    write_file("pause.fails", "", 0600);
    forget_writer();
    struct answer a = save("job-p", false);
    /* Both are asked at once; the first that says no is named. */
    has_failed(&a, false, " did not pause: ended with 3");
    assert_false(a.paused);
    all_go_on();
    unlink(path_of("pause.fails"));
    forget_writer();
    write_file("resume.fails", "", 0600);
    set_trap("backup", "exit 9");
    a = save("job-p", false);
    assert_false(a.ok || a.paused);
    all_go_on();
    /* The service drains while restic runs. */
    forget_writer();
    set_trap("backup", "sleep 300");
    a = (struct answer){0};
    data_save(town.d, "job-p", "0123456789abcdef", "", false, one, 2, on_data, &a);
    for (int i = 0; i < 2000 && !is_there("sprung"); i++)
        settle();
    for (int i = 0; i < 2000 && is_there("trap"); i++)
        settle();
    bool stopped = false;
    data_stop(town.d, on_http_closed, &stopped);
    assert_true(loop_run_until(&town.s.loop, &stopped, 10000));
    has_failed(&a, false, "the service ends");
    assert_false(a.paused);
    all_go_on();
    /* Its owner goes without a word. */
    open_data("", with_pause(""));
    forget_writer();
    set_trap("backup", "sleep 300");
    struct answer never = {0};
    data_save(town.d, "job-p", "0123456789abcdef", "", false, one, 2, on_data, &never);
    for (int i = 0; i < 4000 && is_there("trap"); i++)
        settle();
    assert_false(is_there("trap"));
    close_data();
    for (int i = 0; i < 2000 && count(read_file("writer"), "resume") < 2; i++)
        settle();
    assert_int_equal(count(read_file("writer"), "resume"), 2);
    assert_false(never.came);
    without_restic(false);
}

/* Without {{address}} one program is asked for all, also if no instance is known to be well; one that then cannot be asked stops nothing. */
static void one_program_for_all_writers(void **state)
{
    (void)state;
    char more[2400];
    struct err e = {""};
    snprintf(
        more, sizeof more,
        "        path: [ \"%s\" ]\n        read_back: 0%%\n        pause: [ %s, all ]\n        resume: [ %s, all ]\n",
        path_of("da ta"), path_of("pause"), path_of("resume"));
    assert_int_equal(shell("rm -rf 'da ta' && mkdir 'da ta' && echo text > 'da ta/f'"), 0);
    without_restic(true);
    open_data("", more);
    for (int i = 0; i < 2; i++) {
        struct answer a = {0};
        forget_writer();
        data_save(town.d, "job-q", "0123456789abcdef", "", false, one, i ? 0 : 2, on_data, &a);
        await(&a);
        is_ok(&a);
        assert_false(a.paused);
        assert_string_equal(read_file("writer"), "pause all\nresume all\n");
    }
    write_file("pause.fails", "", 0600);
    struct answer a = {0};
    data_save(town.d, "job-q", "0123456789abcdef", "", false, one, 0, on_data, &a);
    await(&a);
    is_ok(&a);
    assert_true(a.lineage.verified); /* nobody wrote: that is what was compared */
    assert_non_null(strstr(a.text, "no instance is ready, and the writer did not pause"));
    a = (struct answer){0};
    data_save(town.d, "job-q", "0123456789abcdef", "", false, one, 2, on_data, &a);
    await(&a);
    has_failed(&a, false, "the writer did not pause");
    unlink(path_of("pause.fails"));
    without_restic(false);
    struct set_deployment *set = CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0);
    set->data.resume.n = 1;
    struct conf_list was = set->data.pause;
    const char *const each[] = {path_of("pause"), "{{address}}"};
    set->data.pause = (struct conf_list){(void *)each, 2};
    assert_null(data_open(&town.s, set, &e));
    assert_non_null(strstr(e.text, "must both have {{address}}, or neither"));
    set->data.pause = was;
    set->data.resume.n = 2;
}

/* Without a pause it is said what was compared, and what was not. */
static void saved_while_somebody_writes(void **state)
{
    (void)state;
    char more[1200];
    assert_int_equal(shell("rm -rf 'da ta' && mkdir 'da ta' && echo text > 'da ta/f'"), 0);
    snprintf(more, sizeof more, "        path: [ \"%s\" ]\n        read_back: 0%%\n", path_of("da ta"));
    without_restic(true);
    open_data("", more);
    struct answer a = save("job-m", false);
    is_ok(&a);
    assert_true(a.lineage.verified); /* nobody did */
    without_restic(false);
    char script[1200];
    snprintf(script, sizeof script, "echo more >> '%s'", path_of("da ta/f"));
    set_trap("backup", script);
    a = save("job-n", false);
    is_ok(&a);
    assert_false(a.lineage.verified);
    assert_non_null(strstr(a.text, "saved while it was written to"));
    assert_int_equal(shell("echo bad > 'da ta/f'"), 0);
    struct answer b = restore("job-n", a.lineage.snapshot);
    is_ok(&b);
    assert_string_equal(read_file("da ta/f"), "text\nmore\n");
    /* Nothing at all. */
    assert_int_equal(shell("rm 'da ta/f'"), 0);
    without_restic(true);
    a = save("job-o", false);
    without_restic(false);
    is_ok(&a);
    assert_int_equal(a.lineage.files, 0);
    assert_non_null(strstr(a.text, "there were no learning data"));
}

/* What restic restored is not what was saved, or it dies on the way: nothing is replaced, and the next try goes on. */
static void a_restore_replaces_all_or_nothing(void **state)
{
    (void)state;
    char more[2400];
    assert_int_equal(
        shell("rm -rf 'da ta'* two* && mkdir 'da ta' two && echo text > 'da ta/f' && echo second > two/g"), 0);
    snprintf(more, sizeof more,
             "        path: [ \"%s\", \"%s\" ]\n        read_back: 0%%\n        pause: [ %s, \"{{address}}\" ]\n     "
             "   resume: [ %s, \"{{address}}\" ]\n",
             path_of("da ta"), path_of("two"), path_of("pause"), path_of("resume"));
    open_data("", more);
    struct answer a = save("job-r", true);
    is_ok(&a);
    assert_int_equal(shell("echo evil > 'da ta/f'; echo evil > two/g"), 0);
    static const struct {
        const char *script, *said;
        bool lasting;
    } rows[] = {
        {"kill -9 $$", "ended by signal 9", false},
        {"really \"$@\"; find \"${5#*=}\" -name f -exec sh -c 'echo more >> \"$1\"' x {} +; exit 0",
         "is not what was saved: nothing was replaced", true},
    };
    for (size_t i = 0; i < 2; i++) {
        forget_writer();
        set_trap("restore", rows[i].script);
        struct answer b = restore("job-r", a.lineage.snapshot);
        has_failed(&b, rows[i].lasting, rows[i].said);
        assert_false(b.paused);
        all_go_on();
        assert_string_equal(read_file("da ta/f"), "evil\n");
        assert_string_equal(read_file("two/g"), "evil\n");
    }
    struct answer b = restore("job-r", a.lineage.snapshot);
    is_ok(&b);
    assert_string_equal(read_file("da ta/f"), "text\n");
    assert_string_equal(read_file("two/g"), "second\n");
    assert_string_equal(only("da*/f two*/g | wc -l"), "4");
    /* Halfway through, the second directory has gone: what was whole takes its place, without the repository. */
    assert_int_equal(
        shell("rm -rf two && mkdir .redoubt-x && echo again > .redoubt-x/g && mv two.replaced-* kept && "
              "mv .redoubt-x .redoubt-new-two-job-r-%.8s-$(stat -c %%i .redoubt-x) && mv repository away",
              a.lineage.snapshot),
        0);
    b = restore("job-r", a.lineage.snapshot);
    is_ok(&b);
    assert_string_equal(read_file("two/g"), "again\n");
    assert_int_equal(shell("mv away repository"), 0);
}

/* Refused before anything has changed, with what to do. */
static void what_cannot_be_saved_is_refused(void **state)
{
    (void)state;
    char more[2400];
    struct err e = {""};
    assert_int_equal(shell("rm -rf 'da ta'* two* && mkdir -p 'da ta/in' && head -c 3000000 /dev/urandom > 'da ta/f'"),
                     0);
    open_data("", with_pause(""));
    forget_writer();
    write_file("password", "another\n", 0600);
    struct answer a = check();
    has_failed(&a, true, "was made with another password than data.password_file has");
    a = save("job-x", false);
    has_failed(&a, true, "was made with another password");
    write_file("password", "", 0600);
    a = check();
    has_failed(&a, true, "is empty");
    unlink(path_of("password"));
    a = check();
    has_failed(&a, true, "No such file");
    write_file("password", "of the repository\n", 0600);
    chmod(path_of("pause"), 0777);
    a = check();
    has_failed(&a, true, "may write it");
    chmod(path_of("pause"), 0700);
    a = check();
    is_ok(&a);
    assert_int_equal(shell("mkdir other && touch other/file"), 0);
    open_data(path_of("other"), with_pause(""));
    a = check();
    has_failed(&a, true, "there is no restic repository");
    assert_non_null(strstr(a.text, "init"));
    a = save("job-x", false);
    has_failed(&a, true, "there is no restic repository");
    assert_int_equal(shell("test $(ls other) = file"), 0);
    /* Directories. */
    snprintf(more, sizeof more, "        path: [ \"%s\" ]\n", path_of("absent"));
    open_data("", more);
    a = check();
    has_failed(&a, true, "absent: No such file or directory. Create it");
    snprintf(more, sizeof more, "        path: [ \"%s\", \"%s\" ]\n", path_of("da ta"), path_of("da ta/in"));
    open_data("", more);
    a = check();
    has_failed(&a, true, "give only the outer one");
    /* A snapshot of other directories. */
    open_data("", with_pause(""));
    a = restore("job-x", "latest");
    has_failed(&a, true, "there is no snapshot latest");
    /* A program that is not allowed. */
    struct set_deployment *set = CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0);
    struct conf_list allowed = town.s.settings->rollback.exec_allowed;
    town.s.settings->rollback.exec_allowed.n = 0;
    assert_null(data_open(&town.s, set, &e));
    assert_non_null(strstr(e.text, "not among rollback.exec_allowed"));
    town.s.settings->rollback.exec_allowed = allowed;
    /* A disk that takes no more; here, a limit to the size of files. */
    struct rlimit was, small = {1000000, 0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    forget_writer();
    a = save("job-x", false);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    has_failed(&a, true, "Make room");
    all_go_on();
    assert_false(a.paused);
}

/* S3 and sftp are restic's own; the settings get to it, and no secret to the list of processes. */
static void what_restic_is_run_with(void **state)
{
    (void)state;
    open_data("s3:http://user:secret@127.0.0.1:1/bucket/way",
              with_pause("        env: [ \"AWS_ACCESS_KEY_ID=key\", \"AWS_SECRET_ACCESS_KEY=hidden\" ]\n"));
    char script[1400];
    snprintf(script, sizeof script, "env > '%s'; echo 'Fatal: dial tcp 127.0.0.1:1: connection refused' >&2; exit 1",
             path_of("env"));
    set_trap("cat config", script);
    unlink(path_of("calls"));
    struct answer a = check();
    has_failed(&a, false, "the repository s3:http://***@127.0.0.1:1/bucket/way cannot be reached");
    const char *env = read_file("env");
    assert_non_null(strstr(env, "RESTIC_REPOSITORY=s3:http://user:secret@127.0.0.1:1/bucket/way\n"));
    assert_non_null(strstr(env, "AWS_SECRET_ACCESS_KEY=hidden\n"));
    assert_non_null(strstr(env, "AWS_ACCESS_KEY_ID=key\n"));
    assert_non_null(strstr(env, "RESTIC_PASSWORD_FILE="));
    assert_non_null(strstr(read_file("calls"), "--cache-dir="));
    assert_null(strstr(read_file("calls"), "secret"));
    assert_null(strstr(read_file("calls"), "hidden"));
}

/* ---- the stream's position, and a writer that is asked by HTTP ---- */

/* A writer that is asked by POST: notes what was asked, and refuses the first that begins with `refuse`. */
struct writer {
    int fd, port;
    pthread_t thread;
    _Atomic bool stop;
    char refuse[32], posts[600];
};

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    while (!w->stop) {
        struct pollfd p = {.fd = w->fd, .events = POLLIN};
        char heard[2048];
        if (poll(&p, 1, 20) <= 0)
            continue;
        int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : recv(fd, heard, sizeof heard - 1, 0);
        heard[n > 0 ? n : 0] = '\0';
        bool no = *w->refuse && strncmp(heard, w->refuse, strlen(w->refuse)) == 0;
        if (no)
            *w->refuse = '\0';
        const char *answer = no ? "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                                : "HTTP/1.1 204 Done\r\nConnection: close\r\n\r\n";
        FILE *f = n > 0 ? fopen(w->posts, "ae") : NULL;
        if (f) {
            fprintf(f, "%.*s %d\n", (int)strcspn(heard, " "), heard, no);
            fprintf(f, "%.*s\n", (int)strcspn(strchr(heard, ' ') + 1, " "), strchr(heard, ' ') + 1);
            fclose(f);
        }
        if (fd >= 0) {
            (void)!send(fd, answer, strlen(answer), MSG_NOSIGNAL);
            close(fd);
        }
    }
    return NULL;
}

static void writer_open(struct writer *w, const char *refuse)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *w = (struct writer){.port = harness_free_port()};
    a.sin_port = htons((uint16_t)w->port);
    snprintf(w->refuse, sizeof w->refuse, "%s", refuse);
    snprintf(w->posts, sizeof w->posts, "%s", path_of("posts"));
    w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(w->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(w->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(w->fd, 8), 0);
    assert_int_equal(pthread_create(&w->thread, NULL, writer_main, w), 0);
}

static void writers_that_are_asked_by_post(void **state)
{
    (void)state;
    struct writer w;
    char more[2400], address[64], nobody[64];
    writer_open(&w, "POST /resume"); /* it is asked again */
    snprintf(address, sizeof address, "127.0.0.1:%d", w.port);
    snprintf(nobody, sizeof nobody, "127.0.0.1:%d", harness_free_port());
    snprintf(more, sizeof more,
             "        path: [ \"%s\" ]\n        read_back: 0%%\n        pause_url: \"http://{{address}}/pause\"\n"
             "        resume_url: \"http://{{address}}/resume\"\n",
             path_of("da ta"));
    assert_int_equal(shell("rm -rf 'da ta' && mkdir 'da ta' && echo text > 'da ta/f'"), 0);
    without_restic(true);
    open_data("", more);
    struct answer a = {0};
    const char *const at[] = {address, nobody};
    data_save(town.d, "job-h", "0123456789abcdef", "", false, at, 1, on_data, &a);
    await(&a);
    is_ok(&a);
    assert_false(a.paused);
    assert_string_equal(read_file("posts"), "POST 0\n/pause\nPOST 1\n/resume\nPOST 0\n/resume\n");
    /* One of two is not there: it did not pause, and the other goes on. */
    unlink(path_of("posts"));
    a = (struct answer){0};
    data_save(town.d, "job-h", "0123456789abcdef", "", false, at, 2, on_data, &a);
    await(&a);
    assert_false(a.ok);
    assert_non_null(strstr(a.text, "did not pause"));
    assert_non_null(strstr(a.text, "did not go on")); /* of the one that is not there nobody knows */
    assert_true(a.paused);
    assert_string_equal(read_file("posts"), "POST 0\n/pause\nPOST 0\n/resume\n");
    /* Its owner goes while it pauses. */
    unlink(path_of("posts"));
    set_trap("backup", "sleep 300");
    struct answer never = {0};
    data_save(town.d, "job-h", "0123456789abcdef", "", false, at, 1, on_data, &never);
    for (int i = 0; i < 4000 && is_there("trap"); i++)
        settle();
    close_data();
    for (int i = 0; i < 2000 && count(read_file("posts"), "/resume") < 1; i++)
        settle();
    assert_string_equal(read_file("posts"), "POST 0\n/pause\nPOST 0\n/resume\n");
    assert_false(never.came);
    without_restic(false);
    w.stop = true;
    pthread_join(w.thread, NULL);
    close(w.fd);
}

static void on_up(void *ctx)
{
    *(bool *)ctx = true;
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    assert_int_equal(r->status, BUS_OK);
    *(bool *)ctx = true;
}

static void the_position_of_the_stream_is_noted(void **state)
{
    (void)state;
    bool up = false, closed = false;
    struct err e = {""};
    struct harness_proc *nats = harness_nats(town.h, "nats", NULL);
    struct bus_opts o = {.url = nats->url, .name = "test", .inbox_prefix = "_INBOX_test", .on_up = on_up, .ctx = &up};
    town.s.bus = bus_open(&town.s.loop, &o, &e);
    if (!town.s.bus)
        fail_msg("%s", e.text);
    assert_true(loop_run_until(&town.s.loop, &up, HARNESS_WAIT_MS));
    open_data("", with_pause(""));
    struct set_deployment *set = CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0);
    char *was = set->data.stream;
    set->data.stream = (char *)"REDOUBT_AUDIT";
    /* Three messages in the stream: that is its position. */
    for (int i = 0; i < 3; i++) {
        char id[16];
        bool stored = false;
        snprintf(id, sizeof id, "m%d", i);
        bus_store(town.s.bus, &(struct bus_out){.subject = "redoubt.v1.audit.test", .id = id, .data = "x", .len = 1},
                  HARNESS_WAIT_MS, on_stored, &stored);
        assert_true(loop_run_until(&town.s.loop, &stored, HARNESS_WAIT_MS));
    }
    without_restic(true);
    struct answer a = save("job-s", false);
    is_ok(&a);
    assert_string_equal(a.lineage.stream, "REDOUBT_AUDIT");
    assert_int_equal(a.lineage.sequence, 3);
    assert_true(a.lineage.verified);
    /* A stream that is not there, and a bus that is away: saved all the same, and said. */
    set->data.stream = (char *)"NO_SUCH_STREAM";
    a = save("job-t", false);
    is_ok(&a);
    assert_int_equal(a.lineage.sequence, 0);
    assert_non_null(strstr(a.text, "position of stream NO_SUCH_STREAM could not be noted"));
    set->data.stream = was;
    without_restic(false);
    bus_close(town.s.bus, 1000, on_http_closed, &closed);
    assert_true(loop_run_until(&town.s.loop, &closed, HARNESS_WAIT_MS));
    town.s.bus = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_come_back_byte_for_byte),
        cmocka_unit_test(a_kept_snapshot_is_left_by_forget),
        cmocka_unit_test(the_writer_always_goes_on),
        cmocka_unit_test(writers_that_do_not_listen),
        cmocka_unit_test(one_program_for_all_writers),
        cmocka_unit_test(saved_while_somebody_writes),
        cmocka_unit_test(a_restore_replaces_all_or_nothing),
        cmocka_unit_test(what_cannot_be_saved_is_refused),
        cmocka_unit_test(what_restic_is_run_with),
        cmocka_unit_test(writers_that_are_asked_by_post),
        cmocka_unit_test(the_position_of_the_stream_is_noted),
    };
    return cmocka_run_group_tests(tests, open_town, close_town);
}
