/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_admit.c - which messages libcharon is shown.
 *
 * Anybody may send the first octets of an IKE message, from any address. libcharon 5.9.8 counts each IKE_SA_INIT request
 * for its source's half-open IKE_SAs before it looks at the SPIs, and takes it out of the count only if they are those of
 * a first request: a few forged others would block a branch's address for good. It also has IKEv1 and the mediation
 * extension built in, which nobody here uses: what is theirs does not reach it.
 *
 * References: RFC 7296 2.5 (versions), 2.6 (SPIs), 3.1 (header), 3.2 (payloads); RFC 7383 (SKF).
 */
#include "ipsec/ike_admit.h"

#include "gateway/base/be.h"

#define HEADER 28

enum { IKE_SA_INIT = 34, INFORMATIONAL = 37 };
enum { SK = 46, SKF = 53 };
enum { FLAG_INITIATOR = 0x08, FLAG_RESPONSE = 0x20 };

static bool is_zero(const uint8_t *p, unsigned n)
{
	uint8_t any = 0;

	for (unsigned i = 0; i < n; i++)
		any |= p[i];
	return any == 0;
}

bool ike_admit(const uint8_t *data, uint32_t len)
{
	uint8_t payload, exchange, flags;

	if (len < HEADER || be32_get(data + 24) != len || is_zero(data, 8))
		return false;
	payload = data[16];
	exchange = data[18];
	flags = data[19];
	if (data[17] >> 4 != 2)
		return data[17] >> 4 > 2; /* libcharon tells the sender which versions there are */
	if (exchange < IKE_SA_INIT || exchange > INFORMATIONAL)
		return false;
	if (exchange != IKE_SA_INIT)
		return payload == SK || payload == SKF;
	if (flags & FLAG_RESPONSE)
		return !(flags & FLAG_INITIATOR);
	return (flags & FLAG_INITIATOR) && is_zero(data + 8, 8) && is_zero(data + 20, 4);
}
