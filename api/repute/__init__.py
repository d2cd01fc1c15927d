"""The IETF's reputation query protocol (RFC 7070 to 7073), for the application "email-id".

    GET /.well-known/repute-template                    -> how to ask, as a URI template (RFC 7072 section 3.2)
    GET /repute/email-id/192.0.2.7/spam                 -> one reputon: how far the assertion is true of the subject
    GET /repute/email-id/192.0.2.7/                     -> one for each assertion
    GET /repute/email-id/example.com/?identity=spf      -> as whom the subject is meant (RFC 7073 section 3.4)

What an answer means is said in `reputation.ratings`, who may be asked about in `asking`, who may ask in `access`.

=========================================  ===========================================================================
a subject of whom nothing is known         200, a reputon with a sample size of 0 (RFC 7071 section 6.1)
an assertion that "email-id" has not       the same: the RFC makes it no error, and it is no news about the subject
another application                        404 (RFC 7072 section 3.1: MUST)
a subject or an identity that is none      400
the store does not answer                  503, with Retry-After: what is not known now is not nothing
=========================================  ===========================================================================

Parameters of a query that are not known here are passed over: providers may have their own (RFC 7072 section 3.3).
"""

from api.repute.routes import router

__all__ = ("router",)
