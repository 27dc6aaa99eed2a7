/* store_format.c - documents of a newer version are left alone. */
#include "common/store_format.h"
#include <stdlib.h>

int store_format_read(const redisReply *r, struct err *e)
{
    if (r->type != REDIS_REPLY_STRING || strtol(r->str, NULL, 10) <= STORE_FORMAT)
        return 0; /* nothing, or not for us to read: then nothing is known against it */
    return err_set(
        e,
        "a newer version of Redoubt wrote what it holds (format %.10s; this one knows %d): it is left alone. "
        "Run that version, or empty this Redis: the streams fill it again",
        r->str, STORE_FORMAT);
}
