/* backup_source_config.c - the history of the configuration as a kind of backup: a bundle of its git repository, and whether git can make a repository of it again. */
#include "continuity/backup_source.h"
#include "continuity/continuity_shell.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define GIT       "/usr/bin/git"
#define VERIFY_MS 60000
#define LOOK_MS   10

/* The bundle comes in any case: a making that is cancelled stays until then. */
struct making {
    backup_made cb; /* NULL: cancelled */
    void *ctx;
};

static void on_bundle(void *ctx, const char *path, const char *error)
{
    struct making *m = ctx;
    if (m->cb)
        m->cb(m->ctx, *path != '\0', error);
    free(m);
}

static void on_none(void *ctx)
{
    on_bundle(ctx, "", "the history of the configuration is not open");
}

static void *make(struct continuity *c, const struct set_backup *set, const char *dir, backup_made cb, void *ctx)
{
    struct config_room *room = continuity_config(c);
    struct making *m = calloc(1, sizeof *m);
    assert(m && "out of memory for a copy");
    (void)set;
    *m = (struct making){cb, ctx};
    if (room)
        config_room_bundle(room, dir, on_bundle, m);
    else
        loop_defer(&continuity_service_of(c)->loop, on_none, m);
    return m;
}

static void cancel(void *making)
{
    ((struct making *)making)->cb = NULL;
}

/* ---- a copy that was restored ---- */

static int wait_for(pid_t pid, const atomic_bool *stop, struct err *e)
{
    int status = 0;
    for (int waited = 0;; waited += LOOK_MS) {
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid)
            break;
        if (ended < 0 && errno != EINTR)
            return err_set(e, "git cannot be waited for: %s", strerror(errno));
        if ((stop && atomic_load(stop)) || waited >= VERIFY_MS) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return err_set(e, "git had not ended in time");
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : err_set(e, "git cannot make a repository of the bundle: its objects are not whole");
}

/* A repository is made of it beside it, every object looked at on the way. It goes with the scratch directory. */
static int clone_of(const char *dir, const char *bundle, const atomic_bool *stop, struct err *e)
{
    static char *const env[] = {"PATH=/usr/bin:/bin", "LANG=C", "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", NULL};
    char to[PATH_MAX + 32];
    snprintf(to, sizeof to, "%s/.redoubt-clone", dir);
    char *const argv[] = {
        GIT, "-c", "transfer.fsckObjects=true", "clone", "--quiet", "--mirror", "--", (char *)bundle, to, NULL};
    posix_spawn_file_actions_t quiet;
    pid_t pid = 0;
    if (posix_spawn_file_actions_init(&quiet))
        return err_set(e, "out of memory");
    int bad = posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0) ||
              posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0) ||
              posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    if (!bad)
        bad = posix_spawn(&pid, GIT, &quiet, NULL, argv, env);
    posix_spawn_file_actions_destroy(&quiet);
    if (bad)
        return err_set(e, GIT " cannot be run: %s. Install it", strerror(bad));
    return wait_for(pid, stop, e);
}

static int verify(const char *dir, const atomic_bool *stop, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_set(e, "%.300s: %s", dir, strerror(errno));
    char bundle[PATH_MAX + 300] = "";
    for (struct dirent *x; (x = readdir(d));)
        if (*x->d_name != '.')
            snprintf(bundle, sizeof bundle, "%s/%s", dir, x->d_name);
    closedir(d);
    if (!*bundle)
        return err_set(e, "there is no bundle in it");
    return clone_of(dir, bundle, stop, e);
}

const struct backup_source_kind backup_source_config = {
    .name = "config", .make = make, .cancel = cancel, .verify = verify};
