/* test_audit_disk.c - disks that fill under the trail: people are told, strict records go first, the second directory takes over, and nothing is
 * lost. On small file systems of its own, in a mount namespace: it needs root, and says so when it is not. */
#include "audit_town.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#define DISK_BYTES (64 * INT64_C(1048576))

struct disks {
    char first[64], second[64];
};
static struct disks disks;

static bool mount_small(char *dir)
{
    return mkdtemp(dir) && mount("none", dir, "tmpfs", 0, "size=64m,mode=700") == 0;
}

/* The mounts are this process's and its children's, and go with them. */
static bool mount_disks(void)
{
    snprintf(disks.first, sizeof disks.first, "/tmp/redoubt-disk-XXXXXX");
    snprintf(disks.second, sizeof disks.second, "/tmp/redoubt-disk-XXXXXX");
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount_small(disks.first) && mount_small(disks.second);
}

static void unmount_disks(void)
{
    (void)umount2(disks.first, MNT_DETACH);
    (void)umount2(disks.second, MNT_DETACH);
    (void)rmdir(disks.first);
    (void)rmdir(disks.second);
}

/* So much of the disk stays free: something else takes the rest. */
static void leave_free(const char *disk, int64_t bytes)
{
    char path[100];
    struct statvfs v;
    snprintf(path, sizeof path, "%s/filler", disk);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(statvfs(disk, &v), 0);
    int64_t now = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
    if (now > bytes && posix_fallocate(fd, 0, now - bytes) != 0) {
        assert_int_equal(bytes, 0); /* not a byte: piece by piece, as the last ones are not to be had at once */
        static const char piece[65536];
        off_t at = 0;
        for (size_t size = sizeof piece; size > 0;) {
            ssize_t n = pwrite(fd, piece, size, at);
            at += n > 0 ? n : 0;
            size = n > 0 ? size : size / 2;
        }
    }
    close(fd);
}

static int setup(void **state)
{
    char text[300];
    assert_int_equal(town_shell("rm -rf %s/* %s/*", disks.first, disks.second), 0);
    struct town *t = town_open(disks.first);
    snprintf(text, sizeof text, "segment: 64KiB, warn_lag: 1h, second_dir: \"%s\"", disks.second);
    town_configure(t, text);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    town_close(*state);
    return 0;
}

static bool room(struct town *t, const char *step)
{
    char text[64];
    snprintf(text, sizeof text, "\"room\":\"%s\"", step);
    return town_status_has(t, text);
}

#define PERCENT(n) (DISK_BYTES * (n) / 100)

/* Down the ladder and up again; those that may wait fill what the stream hands out, and strict ones come past them. */
static void test_strict_first(void **state)
{
    struct town *t = *state;
    town_start(t);
    town_say_many(t, 0, 20, 100);
    TOWN_IDS(t, t->dir, 20);
    assert_true(room(t, "ok"));
    leave_free(disks.first, PERCENT(15));
    TOWN_UNTIL(t, room(t, "warn"));
    TOWN_UNTIL(t, town_raised(t, "audit/disk"));
    assert_int_equal(town_alerted(t, "audit/disk")->severity, REDOUBT__V1__SEVERITY__SEVERITY_HIGH);
    town_say_many(t, 20, 20, 100);
    TOWN_IDS(t, t->dir, 40);
    leave_free(disks.first, PERCENT(9));
    TOWN_UNTIL(t, room(t, "strict"));
    /* More than the stream hands out before something is acknowledged. */
    town_say_many(t, 1000, 1200, 10);
    for (int i = 40; i < 60; i++)
        town_say(t, TOWN_STRICT, i, 100);
    TOWN_UNTIL(t, t->stored == t->want_stored);
    TOWN_UNTIL(t, town_look(t, t->dir) >= 60 && t->classes[TOWN_STRICT] == 20);
    assert_int_equal(t->ids, 60);
    /* Room again: what waited comes, once. */
    leave_free(disks.first, PERCENT(40));
    TOWN_UNTIL(t, room(t, "ok"));
    TOWN_UNTIL(t, town_resolved(t, "audit/disk"));
    TOWN_IDS(t, t->dir, 1260);
    TOWN_UNTIL(t, town_status_has(t, "\"behind\":0"));
    town_stop(t);
    town_whole(t, t->dir, 1260);
    assert_int_equal(t->n_dead, 0);
}

/* Not a byte left: the trail goes on in the second directory, and comes back. When that is full as well, all waits, and is told as what it is. */
static void test_second_directory(void **state)
{
    struct town *t = *state;
    char second[200];
    town_start(t);
    town_say_many(t, 0, 50, 300);
    TOWN_IDS(t, t->dir, 50);
    town_only(disks.second, second, sizeof second);
    leave_free(disks.first, 0);
    TOWN_UNTIL(t, room(t, "second"));
    assert_int_equal(town_alerted(t, "audit/disk")->severity, REDOUBT__V1__SEVERITY__SEVERITY_HIGH);
    town_say_many(t, 50, 50, 300);
    TOWN_UNTIL(t, town_look2(t, t->dir, second) == 100);
    assert_int_equal(t->report.last_dir, 1);
    /* A start with the trail in two places. */
    town_stop(t);
    town_start(t);
    town_say_many(t, 100, 10, 300);
    TOWN_UNTIL(t, town_look2(t, t->dir, second) == 110);
    assert_null(town_alerted(t, "audit/tampered"));
    /* Nowhere. */
    leave_free(disks.second, 0);
    TOWN_UNTIL(t, room(t, "full"));
    for (int i = 110; i < 120; i++)
        town_say(t, i % 2 ? TOWN_STRICT : TOWN_CONTINUITY, i, 300);
    TOWN_UNTIL(t, t->stored == t->want_stored);
    TOWN_UNTIL(t, town_alerted(t, "audit/disk")->severity == REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL);
    /* The first has room again, and the trail comes back to it. */
    leave_free(disks.first, PERCENT(50));
    TOWN_UNTIL(t, room(t, "ok"));
    TOWN_UNTIL(t, town_look2(t, t->dir, second) == 120);
    assert_int_equal(t->report.last_dir, 0);
    TOWN_UNTIL(t, town_resolved(t, "audit/disk"));
    town_stop(t);
    assert_int_equal(town_look2(t, t->dir, second), 120);
    assert_int_equal(t->n_dead, 0);
}

int main(void)
{
    if (!mount_disks()) {
        printf("skipped: no file systems of its own (%s); run it as root\n", strerror(errno));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_strict_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_directory, setup, teardown),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unmount_disks();
    return rc;
}
