/* drill_file.c - where the figures of drills are kept. */
#include "cli/drill_file.h"
#include "common/clock.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PATH_TEXT 1024

/* Makes every folder of it. 0 or -1. */
static int make_dirs(char *path)
{
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        int bad = mkdir(path, 0700) && errno != EEXIST;
        *p = '/';
        if (bad)
            return -1;
    }
    return mkdir(path, 0700) && errno != EEXIST ? -1 : 0;
}

static int usual_dir(const char *data_dir, char buf[static PATH_TEXT])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (data_dir)
        n = snprintf(buf, PATH_TEXT, "%s/drills", data_dir);
    else if (state && *state == '/')
        n = snprintf(buf, PATH_TEXT, "%s/redoubt/drills", state);
    else if (home && *home == '/')
        n = snprintf(buf, PATH_TEXT, "%s/.local/state/redoubt/drills", home);
    errno = ENOENT;
    return n > 0 && n < PATH_TEXT ? make_dirs(buf) : -1;
}

static int store_as_usual(struct cli *c, const char *name, const char *data_dir, const json_t *figures)
{
    char dir[PATH_TEXT] = "", path[PATH_TEXT + 256], when[32];
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
    if (usual_dir(data_dir, dir)) {
        cli_fail(c, 0, "the figures are not kept: %s%s%s", dir, *dir ? ": " : "no home directory: ", strerror(errno));
        return CLI_OK;
    }
    snprintf(path, sizeof path, "%s/%s-%s.json", dir, name, when);
    if (json_dump_file(figures, path, JSON_INDENT(2)))
        cli_fail(c, 0, "the figures are not kept: cannot write %s", path);
    else
        term_print(&c->out, TERM_DIM, "\nfigures: %s\n", path);
    return CLI_OK;
}

int drill_file_store(struct cli *c, const char *name, const char *data_dir, const char *path, json_t *figures)
{
    int code = CLI_OK;
    if (!path)
        code = store_as_usual(c, name, data_dir, figures);
    else if (strcmp(path, "-") == 0 ? json_dumpf(figures, stdout, JSON_INDENT(2)) || putchar('\n') == EOF
                                    : json_dump_file(figures, path, JSON_INDENT(2)))
        code = cli_fail(c, CLI_FAILED, "cannot write %s", path);
    json_decref(figures);
    return code;
}
