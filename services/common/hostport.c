/* hostport.c - host:port, [v6]:port. */
#include "common/hostport.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int hostport_split(const char *text, int usual, char host[static HOSTPORT_HOST_MAX], int *ret_port)
{
    const char *from = text, *to, *port;
    if (*text == '[') {
        from = text + 1;
        to = strchr(from, ']');
        if (!to || (to[1] && to[1] != ':'))
            return -1;
        port = to[1] ? to + 2 : NULL;
    } else {
        const char *first = strchr(text, ':'), *last = strrchr(text, ':');
        bool bare_v6 = first != last; /* without brackets there is no room for a port */
        to = first && !bare_v6 ? first : text + strlen(text);
        port = first && !bare_v6 ? first + 1 : NULL;
    }
    size_t n = (size_t)(to - from);
    if (n == 0 || n >= HOSTPORT_HOST_MAX)
        return -1;
    int number = usual;
    if (port) {
        size_t digits = strspn(port, "0123456789");
        if (digits == 0 || digits > 5 || port[digits])
            return -1;
        number = atoi(port);
    }
    if (number < 1 || number > 65535)
        return -1;
    memcpy(host, from, n);
    host[n] = 0;
    *ret_port = number;
    return 0;
}
