/* file_kit.h - files of a test in its directory: their paths, what is written to them, what they hold. Define KIT_DIR before. */
#ifndef REDOUBT_TESTS_FILE_KIT_H
#define REDOUBT_TESTS_FILE_KIT_H

#include <stdio.h>
#include <sys/stat.h>

/* Good for eight calls. */
static const char *path_of(const char *name)
{
    static char buf[8][1024];
    static int i;
    i = (i + 1) % 8;
    snprintf(buf[i], sizeof buf[i], "%s/%s", KIT_DIR, name);
    return buf[i];
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    FILE *f = fopen(path_of(name), "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path_of(name), mode), 0);
}

/* Until the next call; "" if it is not there. */
static const char *read_file(const char *name)
{
    static char buf[16384];
    FILE *f = fopen(path_of(name), "re");
    size_t n = f ? fread(buf, 1, sizeof buf - 1, f) : 0;
    buf[n] = '\0';
    if (f)
        fclose(f);
    return buf;
}

#endif
