/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proposal.h - strongSwan's proposal syntax ("aes256gcm16-prfsha384-ecp384"), checked without strongSwan, so that the
 * configuration's messages can say which algorithms are known. What passes here, libstrongswan takes (a test holds it).
 *
 * References: swanctl.conf(5), RFC 7296 3.3, RFC 8221, RFC 8247.
 */
#ifndef ARRD_IPSEC_PROPOSAL_H
#define ARRD_IPSEC_PROPOSAL_H

#include <stddef.h>

enum proposal_kind { PROPOSAL_IKE, PROPOSAL_ESP };

/* Is s one proposal that can be negotiated and carried out here? Returns 0, or -EINVAL with "what is wrong; what was
 * expected" in err, naming the known algorithms where one is unknown. */
int proposal_check(enum proposal_kind kind, const char *s, char *err, size_t errlen);

/* What holds where the configuration says nothing, comma-separated. */
#define PROPOSAL_IKE_DEFAULT                                                                                 \
	"aes256gcm16-prfsha384-ecp384, aes128gcm16-prfsha256-ecp256, aes256-sha384-ecp384, "                 \
	"aes256-sha256-modp2048-ecp256-ecp384-modp3072-modp4096, aes128-sha256-modp2048-ecp256"
#define PROPOSAL_ESP_DEFAULT                                                                                 \
	"aes256gcm16-esn-noesn, aes128gcm16-esn-noesn, chacha20poly1305-esn-noesn, "                         \
	"aes256-sha256-esn-noesn, "                                                                          \
	"aes128-sha256-esn-noesn"

#endif
