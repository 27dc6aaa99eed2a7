/* test_rollback_swap.c - hashes of trees, and a directory that takes another's place, with an end of the process between any two steps. */
#include "common/tree.h"
#include "rollback/data_swap.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static char *in(char *buf, const char *name)
{
    snprintf(buf, PATH_MAX, "%s/%s", base, name);
    return buf;
}

static void remove_all(const char *path)
{
    char command[PATH_MAX + 32];
    snprintf(command, sizeof command, "rm -rf -- '%s'", path);
    assert_int_equal(system(command), 0);
}

static void is_text(const char *path, const char *text)
{
    char got[256] = "";
    FILE *f = fopen(path, "re");
    if (!f)
        fail_msg("%s is not there", path);
    (void)!fgets(got, sizeof got, f);
    fclose(f);
    assert_string_equal(got, text);
}

/* ---- hashes ---- */

static struct tree_sum sum_of(const char *path)
{
    struct tree_sum s;
    struct err e = {""};
    const struct tree_opts o = {0};
    if (tree_sum(&path, 1, &o, &s, &e))
        fail_msg("%s", e.text);
    return s;
}

static void a_tree(const char *name)
{
    char a[PATH_MAX], b[PATH_MAX], at[PATH_MAX];
    snprintf(at, sizeof at, "%s", in(a, name));
    remove_all(at);
    assert_int_equal(mkdir(at, 0755), 0);
    snprintf(a, sizeof a, "%s/sub", at);
    assert_int_equal(mkdir(a, 0700), 0);
    snprintf(a, sizeof a, "%s/sub/f", at);
    put(a, "text");
    snprintf(b, sizeof b, "%s/link", at);
    assert_int_equal(link(a, b), 0);
    snprintf(b, sizeof b, "%s/symbolic", at);
    assert_int_equal(symlink("sub/f", b), 0);
    snprintf(b, sizeof b, "%s/pipe", at);
    assert_int_equal(mkfifo(b, 0600), 0);
    snprintf(b, sizeof b, "%s/zeros", at);
    put(b, "");
    assert_int_equal(truncate(b, 1 << 20), 0);
    const struct timespec then[] = {{1000000000, 5}, {1000000000, 123456789}};
    static const char *const names[] = {"sub/f", "zeros", "symbolic", "pipe", "sub"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(b, sizeof b, "%s/%s", at, names[i]);
        assert_int_equal(utimensat(AT_FDCWD, b, then, AT_SYMLINK_NOFOLLOW), 0);
    }
}

/* Every change but the last ones is seen; which hash sees it. */
static void changes_are_seen(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        bool content, meta;
    } rows[] = {
        {"true", false, false},
        {"chmod 640 sub/f", false, true},
        {"touch -h -d @1000000001 symbolic", false, true},
        {"touch -d @1000000000.123456788 sub/f", false, true},
        {"printf texu > sub/f && touch -d @1000000000.123456789 sub/f", true, false},
        {"ln -sfn sub/g symbolic && touch -h -d @1000000000.123456789 symbolic", true, false},
        {"cp -p link x && mv x link", true, false}, /* no hard link any more */
        {"rm pipe && mkdir pipe", true, true},
        {"touch sub/more", true, true},
        {"mv zeros null", true, true},
        {"rm zeros", true, true},
        {"mkdir .redoubt-kept && touch .redoubt-kept/x", false, false}, /* ours */
        {"touch . && touch -a sub/f", false, false},                    /* the top's time; times of reading */
        {"dd if=/dev/zero of=zeros bs=1M count=1 2>/dev/null && touch -d @1000000000.123456789 zeros", false,
         false}, /* no hole any more */
    };
    char at[PATH_MAX], command[PATH_MAX + 256];
    a_tree("t");
    const struct tree_sum was = sum_of(in(at, "t"));
    assert_int_equal(was.files, 3); /* with the second name of one */
    assert_int_equal(was.bytes, 4 + (1 << 20));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        a_tree("t");
        snprintf(command, sizeof command, "cd '%s' && %s", in(at, "t"), rows[i].command);
        assert_int_equal(system(command), 0);
        const struct tree_sum is = sum_of(at);
        if ((strcmp(is.content, was.content) != 0) != rows[i].content ||
            (strcmp(is.meta, was.meta) != 0) != rows[i].meta)
            fail_msg("%s: content %s, meta %s", rows[i].command, strcmp(is.content, was.content) ? "differs" : "same",
                     strcmp(is.meta, was.meta) ? "differs" : "same");
    }
    if (setxattr(in(at, "t/sub/f"), "user.x", "y", 1, 0) == 0) {
        a_tree("t");
        setxattr(in(at, "t/sub/f"), "user.x", "y", 1, 0);
        assert_string_not_equal(sum_of(in(at, "t")).meta, was.meta);
    }
}

static FILE *manifest_of(const char *path)
{
    FILE *f = tmpfile();
    struct tree_sum s;
    struct err e = {""};
    const struct tree_opts o = {.manifest = f};
    assert_non_null(f);
    assert_int_equal(tree_sum(&path, 1, &o, &s, &e), 0);
    rewind(f);
    return f;
}

static void a_difference_has_a_name(void **state)
{
    (void)state;
    static const struct {
        const char *command, *said;
    } rows[] = {
        {"true", ""},
        {"printf texu > sub/f", "/link: its content differs"},
        {"rm zeros", "/zeros is missing"},
        {"touch zz", "/zz is too many"},
        {"chmod 700 zeros", "/zeros: owner, mode, time or attributes differ"},
        {"mv pipe pip", "/pip stands where /pipe was"},
    };
    char at[PATH_MAX], command[PATH_MAX + 256], said[300];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        a_tree("t");
        FILE *was = manifest_of(in(at, "t"));
        snprintf(command, sizeof command, "cd '%s' && %s", at, rows[i].command);
        assert_int_equal(system(command), 0);
        FILE *is = manifest_of(at);
        *said = '\0';
        assert_int_equal(tree_differs(was, is, false, said, sizeof said), *rows[i].said != '\0');
        assert_string_equal(said, rows[i].said);
        fclose(was);
        fclose(is);
    }
}

static void zeros_become_holes(void **state)
{
    (void)state;
    char at[PATH_MAX], file[PATH_MAX];
    struct stat was, is;
    struct tree_sum s;
    struct err e = {""};
    a_tree("t");
    in(file, "t/zeros");
    FILE *f = fopen(file, "we");
    for (int i = 0; i < 1 << 20; i++)
        fputc(i == 300000 ? 'x' : 0, f);
    fclose(f);
    const char *path = in(at, "t");
    const struct tree_sum before = sum_of(path);
    assert_int_equal(lstat(file, &was), 0);
    const struct tree_opts o = {.dig = true};
    assert_int_equal(tree_sum(&path, 1, &o, &s, &e), 0);
    assert_string_equal(s.content, before.content);
    assert_int_equal(lstat(file, &is), 0);
    assert_true(is.st_blocks <= was.st_blocks); /* on a file system without holes they are the same */
    assert_int_equal(is.st_mtim.tv_nsec, was.st_mtim.tv_nsec);
    const struct tree_sum after = sum_of(path);
    assert_string_equal(after.content, before.content);
    assert_string_equal(after.meta, before.meta);
}

static void only_ours_is_removed(void **state)
{
    (void)state;
    char at[PATH_MAX], gone[PATH_MAX];
    struct err e = {""};
    a_tree("t");
    assert_int_equal(tree_remove(in(at, "t"), false, &e), -1);
    assert_non_null(strstr(e.text, "is not ours to remove"));
    assert_int_equal(access(at, F_OK), 0);
    a_tree(".redoubt-x");
    assert_int_equal(chmod(in(at, ".redoubt-x/sub"), 0), 0);
    assert_int_equal(symlink("/etc", in(gone, ".redoubt-x/out")), 0);
    assert_int_equal(tree_remove(in(at, ".redoubt-x"), true, &e), 0);
    assert_true(tree_is_empty(at));
    assert_int_equal(tree_remove(at, false, &e), 0);
    assert_int_not_equal(access(at, F_OK), 0);
    assert_int_equal(tree_remove(at, false, &e), 0); /* not there: fine */
    assert_int_equal(access("/etc/passwd", F_OK), 0);
}

/* ---- swapping ---- */

struct crash {
    int left;
};

static void on_step(void *ctx)
{
    struct crash *c = ctx;
    if (c->left-- == 0)
        _exit(9);
}

enum how { BESIDE, PLAIN, INSIDE };

static void begin(struct swap *s, enum how how, struct crash *c)
{
    char path[PATH_MAX];
    struct err e = {""};
    assert_int_equal(swap_init_as(s, in(path, "data"), "job-12345678", how == INSIDE, &e), 0);
    s->plain = how == PLAIN;
    s->step = c ? on_step : NULL;
    s->ctx = c;
}

static void was_and_will_be(enum how how)
{
    char a[PATH_MAX], tree[PATH_MAX];
    struct swap s;
    struct err e = {""};
    remove_all(in(a, "data"));
    snprintf(a, sizeof a, "rm -rf '%s'/data.* '%s'/.redoubt-*", base, base);
    assert_int_equal(system(a), 0);
    assert_int_equal(mkdir(in(a, "data"), 0750), 0);
    put(in(a, "data/one"), "old 1");
    put(in(a, "data/two"), "old 2");
    assert_int_equal(mkdir(in(a, "data/dir"), 0700), 0);
    put(in(a, "data/dir/deep"), "old 3");
    begin(&s, how, NULL);
    assert_int_equal(swap_begin(&s, &e), 0);
    assert_int_equal(swap_state(&s, tree), SWAP_NOTHING);
    snprintf(tree, sizeof tree, "%.2000s/deep", s.part);
    assert_int_equal(mkdir(tree, 0700), 0);
    snprintf(tree, sizeof tree, "%.2000s/deep/data", s.part);
    assert_int_equal(mkdir(tree, 0710), 0);
    snprintf(a, sizeof a, "%.2000s/one", tree);
    put(a, "new 1");
    snprintf(a, sizeof a, "%.2000s/dir", tree);
    assert_int_equal(mkdir(a, 0700), 0);
    snprintf(a, sizeof a, "%.2000s/dir/three", tree);
    put(a, "new 3");
    const struct timespec then[] = {{1000000000, 0}, {1000000000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, tree, then, 0), 0);
}

static void has_all(const struct swap *s)
{
    char a[PATH_MAX], kept[PATH_MAX];
    struct stat st;
    is_text(in(a, "data/one"), "new 1");
    is_text(in(a, "data/dir/three"), "new 3");
    assert_int_not_equal(access(in(a, "data/two"), F_OK), 0);
    assert_int_equal(stat(in(a, "data"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0710); /* the new one's own */
    if (!s->inside)                            /* removing the last of what helped touches the top */
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
    snprintf(kept, sizeof kept, "%.2000s/one", s->replaced);
    is_text(kept, "old 1");
    snprintf(kept, sizeof kept, "%.2000s/two", s->replaced);
    is_text(kept, "old 2");
    snprintf(kept, sizeof kept, "%.2000s/dir/deep", s->replaced);
    is_text(kept, "old 3");
    assert_int_equal(swap_state(s, a), SWAP_DONE);
    assert_int_not_equal(access(s->part, F_OK), 0);
}

/* Everything of both is somewhere, at any time. */
static int count_texts(void)
{
    char command[PATH_MAX];
    snprintf(command, sizeof command, "test $(grep -rlE '(old|new) [0-9]' '%s' | wc -l) -eq 5", base);
    return system(command);
}

static void a_crash_at_any_step_is_gone_on_from(void **state)
{
    (void)state;
    char tree[PATH_MAX], at[PATH_MAX];
    for (enum how how = BESIDE; how <= INSIDE; how++) {
        int crashes = 0;
        for (int k = 0;; k += getenv("VALGRIND") ? 5 : 1) { /* forks are slow there */
            struct err e = {""};
            was_and_will_be(how);
            bool ended = false;
            /* It may die again and again: each time one step further on, or several. */
            for (int tries = 0; !ended; tries++) {
                assert_true(tries < 40);
                pid_t child = fork();
                assert_true(child >= 0);
                if (child == 0) {
                    struct crash c = {tries == 0 ? k : k % 3};
                    struct swap s;
                    begin(&s, how, &c);
                    if (tries > 8)
                        s.step = NULL;
                    snprintf(tree, sizeof tree, "%.2000s/deep/data", s.part);
                    if (swap_state(&s, at) == SWAP_NOTHING && swap_stage(&s, tree, &e))
                        _exit(1);
                    _exit(swap_finish(&s, &e) ? 1 : 0);
                }
                int status = 0;
                assert_int_equal(waitpid(child, &status, 0), child);
                assert_true(WIFEXITED(status));
                assert_int_not_equal(WEXITSTATUS(status), 1);
                ended = WEXITSTATUS(status) == 0;
                crashes += !ended;
                if (count_texts() != 0)
                    fail_msg("kind %d, crash at step %d, try %d: something is lost", (int)how, k, tries);
                if (how == BESIDE)
                    assert_int_equal(access(in(at, "data"), F_OK), 0); /* nobody ever finds nothing */
                if (ended && tries == 0) {
                    assert_true(crashes > 0);
                    k = 1000; /* it did not even get to the crash */
                }
            }
            struct swap s;
            begin(&s, how, NULL);
            has_all(&s);
            assert_int_equal(swap_finish(&s, &e), 0); /* once more: nothing happens */
            has_all(&s);
            if (k >= 1000)
                break;
        }
    }
}

static void names_are_bounded(void **state)
{
    (void)state;
    struct swap s;
    struct err e = {""};
    char path[PATH_MAX + 10];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    assert_int_equal(swap_init(&s, path, "t", &e), -1);
    assert_int_equal(swap_init(&s, "/", "t", &e), -1);
    path[201] = '\0';
    assert_int_equal(swap_init_as(&s, path, "job-12345678", false, &e), 0);
    assert_true(strlen(strrchr(s.part, '/') + 1) < 255);
    assert_true(strlen(strrchr(s.replaced, '/') + 1) < 255);
    assert_int_equal(swap_init_as(&s, "/proc", "t", true, &e), 0);
    assert_string_equal(s.part, "/proc/.redoubt-part-t");
    assert_int_equal(swap_init(&s, "/proc", "t", &e), 0);
    assert_true(s.inside); /* a mount point cannot be renamed */
}

static int make_base(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "/tmp/redoubt-swap-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int drop_base(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", base, base);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_seen),
        cmocka_unit_test(a_difference_has_a_name),
        cmocka_unit_test(zeros_become_holes),
        cmocka_unit_test(only_ours_is_removed),
        cmocka_unit_test(a_crash_at_any_step_is_gone_on_from),
        cmocka_unit_test(names_are_bounded),
    };
    return cmocka_run_group_tests(tests, make_base, drop_base);
}
