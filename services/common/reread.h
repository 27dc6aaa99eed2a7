/* reread.h - a service's own settings file, read again when a configuration is accepted that it is the file of. */
#ifndef REDOUBT_REREAD_H
#define REDOUBT_REREAD_H

#include "common/service.h"
#include "common/sha256.h"

struct reread {
    struct service *s;
    const char *path;
    char sha256[SHA256_TEXT]; /* as it was read last, taken over or not */
    struct bus_watch *watch;
    void (*again)(struct service *s);
};
/* Right before it is read: what changes after this is noticed. */
void reread_note(struct reread *r, const char *path);
/* again() is called for a file that is not as it was read last, and is what the suite has accepted. 0 or -1. */
int reread_open(struct reread *r, struct service *s, void (*again)(struct service *s), struct err *e);
void reread_close(struct reread *r);

#endif
