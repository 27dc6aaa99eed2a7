/* test_audit_home.c - a trail keeps its name, whoever goes on with it; a part of it that may lie elsewhere under another name is asked for. */
#include "audit/audit_home.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char base[64], dir[128], second[128], name[AUDIT_HOME_MAX];
    struct err e;
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    *state = p;
    snprintf(p->base, sizeof p->base, "/tmp/redoubt-home-XXXXXX");
    assert_non_null(mkdtemp(p->base));
    snprintf(p->dir, sizeof p->dir, "%s/0", p->base);
    snprintf(p->second, sizeof p->second, "%s/second", p->base);
    assert_int_equal(mkdir(p->dir, 0700), 0);
    assert_int_equal(mkdir(p->second, 0700), 0);
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -r '%s'", p->base);
    assert_int_equal(system(cmd), 0);
    free(p);
    return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int open_as(struct place *p, const char *second, const char *instance)
{
    p->e.text[0] = 0;
    return audit_home_open(p->dir, second, instance, p->name, &p->e);
}

static void test_kept(void **state)
{
    struct place *p = *state;
    assert_int_equal(open_as(p, "", "one-audit-0"), 0);
    assert_string_equal(p->name, "one-audit-0");
    /* Another host, another container: the same trail. */
    assert_int_equal(open_as(p, p->second, "two-audit-0"), 0);
    assert_string_equal(p->name, "one-audit-0");
    audit_home_of(p->dir, 0, "two-audit-7", p->name);
    assert_string_equal(p->name, "one-audit-0");
}

static void test_of_a_version_before(void **state)
{
    struct place *p = *state;
    audit_home_of(p->dir, 3, "host-audit-12", p->name);
    assert_string_equal(p->name, "host-audit-3");
    /* A trail that is there, its second part under the same name. */
    put(p->dir, "checkpoint", "x");
    char path[256];
    snprintf(path, sizeof path, "%s/host-audit-0", p->second);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(open_as(p, p->second, "host-audit-0"), 0);
    assert_string_equal(p->name, "host-audit-0");
}

static void test_of_another_host(void **state)
{
    struct place *p = *state;
    char path[256];
    put(p->dir, "checkpoint", "x");
    snprintf(path, sizeof path, "%s/old-audit-0", p->second);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(open_as(p, p->second, "new-audit-0"), -1);
    assert_non_null(strstr(p->e.text, "old-audit-0"));
    /* Both ways out that it names. */
    put(p->dir, "name", "old-audit-0\n");
    assert_int_equal(open_as(p, p->second, "new-audit-0"), 0);
    assert_string_equal(p->name, "old-audit-0");
    snprintf(path, sizeof path, "%s/name", p->dir);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/new-audit-0", p->second);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(open_as(p, p->second, "new-audit-0"), 0);
    assert_string_equal(p->name, "new-audit-0");
}

static void test_no_way_out_of_its_directory(void **state)
{
    struct place *p = *state;
    static const char *const bad[] = {
        "",          "\n",      "..",
        "../../etc", "a/b",     "A",
        "a b",       "name\tx", "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(p->dir, "name", bad[i]);
        if (open_as(p, "", "host-audit-0") != -1)
            fail_msg("taken for a name: `%s`", bad[i]);
        assert_non_null(strstr(p->e.text, p->dir));
        audit_home_of(p->dir, 4, "host-audit-0", p->name);
        assert_string_equal(p->name, "host-audit-4");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_a_version_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_another_host, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_way_out_of_its_directory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
