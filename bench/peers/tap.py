"""A tap of the sandbox's list, as singer-sdk's own template has it: `tap.py URL TOKEN COUNT` writes Singer messages."""

import sys

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import BearerTokenAuthenticator

URL, TOKEN, COUNT = sys.argv[1:4]


class Records(RESTStream):
    name = "records"
    path = "/records"
    url_base = URL
    primary_keys = ("id",)
    records_jsonpath = "$.records[*]"
    next_page_token_jsonpath = "$.next"
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType),
        th.Property("updated", th.IntegerType),
        th.Property(
            "product",
            th.ObjectType(
                th.Property("id", th.StringType), th.Property("name", th.StringType), th.Property("url", th.StringType)
            ),
        ),
        th.Property("email", th.StringType),
        th.Property("full_name", th.StringType),
        th.Property("country", th.StringType),
        th.Property("zip", th.StringType),
        th.Property("price", th.IntegerType),
        th.Property("fee", th.NumberType),
        th.Property("currency", th.StringType),
        th.Property("quantity", th.IntegerType),
        th.Property("refunded", th.BooleanType),
        th.Property("referrer", th.StringType),
        th.Property("tags", th.ArrayType(th.StringType)),
        th.Property("variants", th.ObjectType(th.Property("colour", th.StringType), th.Property("size", th.StringType))),
        th.Property(
            "card",
            th.ObjectType(
                th.Property("type", th.StringType),
                th.Property("last4", th.StringType),
                th.Property("expires", th.ArrayType(th.IntegerType)),
            ),
        ),
        th.Property("note", th.StringType),
    ).to_dict()

    @property
    def authenticator(self):
        return BearerTokenAuthenticator(token=TOKEN)

    def get_url_params(self, context, next_page_token):
        return {"count": COUNT, "limit": 1000, "cursor": next_page_token or 0}


class TapSandbox(Tap):
    name = "tap-sandbox"
    config_jsonschema = th.PropertiesList().to_dict()

    def discover_streams(self):
        return [Records(self)]


TapSandbox(config={}).sync_all()
