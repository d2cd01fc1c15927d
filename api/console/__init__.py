"""The console of the abuse desk, in the browser, at ``/console``: pages over the `Desk` contract.

    mounted(app, surroundings)          puts it into the API's application

Pages are written by the server (Jinja2) and need no script; one small script keeps them fresh, shows forms as dialogs,
and follows the live stream. There is no state on the server: any node of the API answers any request, and a log-in is a
cookie that all of them can read (`api.console.sessions`). Nothing is loaded from elsewhere, and the Content Security
Policy allows no script and no style but the two files of ours.

==============  ==================================================================================================
`site`          routes, header fields, pages for what goes wrong
`pages`         one module for each page
`visits`        who visits, and what he may; forms against forgery
`sessions`      the cookie of a log-in
`showing`       templates
`charts`        charts as SVG
`wording`       how values are written; whatever a stranger sent becomes harmless and readable here
`assets`        style sheet, script, sign
==============  ==================================================================================================
"""

from api.console.site import mounted

__all__ = ("mounted",)
