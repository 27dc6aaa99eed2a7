/* hostport.h - host:port, [v6]:port. */
#ifndef REDOUBT_HOSTPORT_H
#define REDOUBT_HOSTPORT_H

#define HOSTPORT_HOST_MAX 256

/* Splits; the brackets of a v6 address are left out. Without a port it is `usual`; usual 0 = a port must be there. 0, or -1. */
int hostport_split(const char *text, int usual, char host[static HOSTPORT_HOST_MAX], int *ret_port);

#endif
