/* health_dns.h - the records of a DNS answer as text. Pure. */
#ifndef REDOUBT_HEALTH_DNS_H
#define REDOUBT_HEALTH_DNS_H

#include <stddef.h>

#define HEALTH_DNS_TEXT_MAX 1024

/* A kind of record as in enum set_dns_record: its number in DNS. */
int health_dns_type(int record);

/* Sees a record.
 * A, AAAA: the address. CNAME, NS: the name. MX: "10 mail.example.org". SRV: "priority weight port name". TXT: its strings, joined.
 * Names end without a dot. */
typedef void (*health_dns_record)(void *ctx, const char *text, size_t len);

/* Reads the answers of one type in a message. The number of them, or -1 if the message is malformed anywhere: what was seen of it
 * then counts for nothing. */
int health_dns_read(const unsigned char *message, size_t len, int type, health_dns_record fn, void *ctx);

#endif
