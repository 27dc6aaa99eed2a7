/* subject_match.c - which subjects a pattern of NATS covers. */
#include "cli/subject_match.h"
#include "common/subjects.h"
#include <stdio.h>
#include <string.h>

/* Walks both token by token; `both` = a wildcard on either side counts. */
static bool walk(const char *a, const char *b, bool both)
{
    for (;;) {
        size_t na = strcspn(a, "."), nb = strcspn(b, ".");
        if ((na == 1 && *a == '>') || (both && nb == 1 && *b == '>'))
            return nb > 0 && na > 0;
        bool any = na == 1 && *a == '*' && !(nb == 1 && *b == '>');
        any = any || (both && nb == 1 && *b == '*');
        if (!any && (na != nb || memcmp(a, b, na) != 0))
            return false;
        if (!a[na] || !b[nb])
            return !a[na] && !b[nb];
        a += na + 1;
        b += nb + 1;
    }
}

bool subject_covers(const char *pattern, const char *other)
{
    return walk(pattern, other, false);
}

bool subject_overlaps(const char *a, const char *b)
{
    return walk(a, b, true);
}

void subject_meant(const char *given, char *buf, size_t size)
{
    if (strncmp(given, SUBJECT_PREFIX, strlen(SUBJECT_PREFIX)) == 0 || strchr(">*$_", *given))
        snprintf(buf, size, "%s", given);
    else if (strchr(given, '.') || strcmp(given, "alert") == 0)
        snprintf(buf, size, SUBJECT_PREFIX "%s", given);
    else
        snprintf(buf, size, SUBJECT_PREFIX "%s.>", given);
}
