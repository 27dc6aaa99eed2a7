/* conf_copy.c - a copy of settings that lives on when the file is read again. */
#include "common/conf_impl.h"
#include <stdlib.h>
#include <string.h>

static bool copy_object(const struct conf_schema *s, const char *from, char *to);

static bool copy_string(const char *from, char **to)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

/* `to` is empty. What could not be copied is left empty, so that it can be freed. */
static bool copy_list(const struct conf_field *f, const struct conf_list *from, struct conf_list *to)
{
    size_t size = f->type == CONF_LIST ? f->schema->size : sizeof(char *);
    if (from->n == 0)
        return true;
    to->items = calloc(from->n, size);
    if (!to->items)
        return false;
    to->n = from->n;
    bool ok = true;
    for (size_t i = 0; i < from->n; i++) {
        const char *a = (const char *)from->items + i * size;
        char *b = (char *)to->items + i * size;
        if (f->type == CONF_LIST)
            ok = copy_object(f->schema, a, b) && ok;
        else
            ok = copy_string(*(char *const *)a, (char **)b) && ok;
    }
    return ok;
}

static bool copy_object(const struct conf_schema *s, const char *from, char *to)
{
    bool ok = true;
    for (size_t i = 0; i < s->n; i++) {
        const struct conf_field *f = &s->fields[i];
        const char *a = from + f->offset;
        char *b = to + f->offset;
        if (conf_is_string(f->type))
            ok = copy_string(*(char *const *)a, (char **)b) && ok;
        else if (f->type == CONF_OBJECT)
            ok = copy_object(f->schema, a, b) && ok;
        else if (f->type == CONF_LIST || f->type == CONF_STRINGS)
            ok = copy_list(f, (const struct conf_list *)a, (struct conf_list *)b) && ok;
        else
            memcpy(b, a, f->type == CONF_BOOL ? sizeof(bool) : f->type == CONF_ENUM ? sizeof(int) : sizeof(int64_t));
    }
    return ok;
}

void *conf_copy(const struct conf_schema *s, const void *from)
{
    char *to = calloc(1, s->size);
    if (to && !copy_object(s, from, to)) {
        conf_free(s, to);
        return NULL;
    }
    return to;
}
