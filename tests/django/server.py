"""An authorization server of django-oauth-toolkit with an API beside it, on a port of the system's choice. Its first line
tells the address; it ends when its standard input does, so that it never outlives the test that started it.

It rotates refresh tokens and detects reuse; a spent one is taken again within GRACE_SECONDS, and buys the same tokens.

  POST /register/   clients register themselves (RFC 7591)
  GET  /v2/sales    the API; wants an access token with the scope view_sales
  GET  /test/log    what happened at the token endpoint and at the API
"""

import logging
import os
import sys
import tempfile
import threading

import django
from django.conf import settings

folder = tempfile.TemporaryDirectory()
settings.configure(
    SECRET_KEY=os.urandom(32).hex(),
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware", __name__ + ".middleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder.name, "db")}},
    LOGGING_CONFIG=None,
    OAUTH2_PROVIDER={
        "SCOPES": {"view_sales": "See the sales"},
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": int(os.environ["GRACE_SECONDS"]),
        "DCR_ENABLED": True,
        "DCR_REGISTRATION_PERMISSION_CLASSES": ("oauth2_provider.dcr.AllowAllDCRPermission",),
    },
)
logging.disable(logging.CRITICAL)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.decorators import protected_resource  # noqa: E402

log = {"grants": [], "api": []}


def middleware(get_response):
    """Knows every browser as one person, and writes down what happens."""

    def handle(request):
        request.user = User.objects.get(username="person")
        response = get_response(request)
        if request.path == "/token/":
            outcome = "issued" if response.status_code == 200 else str(response.status_code)
            log["grants"].append({"grant": request.POST.get("grant_type"), "outcome": outcome})
        elif request.path == "/v2/sales":
            log["api"].append(response.status_code)
        return response

    return handle


@protected_resource(scopes=["view_sales"])
def sales(_request):
    return JsonResponse({"success": True, "sales": []})


urlpatterns = [
    path("v2/sales", sales),
    path("test/log", lambda _request: JsonResponse(log)),
    path("", include("oauth2_provider.urls")),
]


class Handler(WSGIRequestHandler):
    def log_message(self, *_args):
        pass


class Server(ThreadedWSGIServer):
    def handle_error(self, *_args):
        """A client that has left is what the tests are about."""


call_command("migrate", verbosity=0)
User.objects.create_user("person")
server = Server(("127.0.0.1", 0), Handler)
server.set_app(get_wsgi_application())
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()
folder.cleanup()
