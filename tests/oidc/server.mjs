// An OpenID provider with a protected API beside it, on a port of the system's choice. Its first line tells the address;
// it ends when its standard input does, so that it never outlives the test that started it.
//
//   POST /reg                  clients register themselves (RFC 7591)
//   GET  /v2/sales             the API; wants an access token with the scope view_sales
//   GET  /test/log             what happened at the token endpoint and at the API
//   POST /test/refuse-tokens   the API refuses every access token issued so far

import { once } from 'node:events';
import { createServer } from 'node:http';

// The library says that its forms, keys and store are made for development. So are these tests.
console.warn = console.info = () => {};
const { default: Provider } = await import('oidc-provider');

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const log = { grants: [], api: [] };
const issued = new Set();
const refused = new Set();

const provider = new Provider(issuer, {
  features: { registration: { enabled: true }, revocation: { enabled: true } },
  scopes: ['openid', 'offline_access', 'view_sales'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: Number(process.env.ACCESS_TOKEN_SECONDS) },
});

const anHourAgo = () => new Date(Date.now() - 3_600_000).toISOString();

provider.on('access_token.saved', (token) => issued.add(token.jti));
provider.on('grant.success', (ctx) => log.grants.push({ grant: ctx.oidc.params.grant_type, outcome: 'issued' }));
provider.on('grant.error', (ctx, error) => {
  log.grants.push({ grant: ctx.oidc.params?.grant_type, outcome: error.message });
});
provider.on('server_error', (ctx, error) => console.error(error));

provider.use(async (ctx, next) => {
  if (ctx.path === '/v2/sales') {
    const [, bearer] = /^Bearer (.+)$/.exec(ctx.get('authorization')) ?? [];
    const token = bearer && (await provider.AccessToken.find(bearer));
    const allowed = token?.isValid && token.scopes.has('view_sales') && !refused.has(token.jti);
    ctx.status = allowed ? 200 : 401;
    ctx.body = allowed
      ? { success: true, sales: [{ created_at: anHourAgo(), price: 2499, currency_symbol: '$' }] }
      : { success: false };
    log.api.push(ctx.status);
  } else if (ctx.path === '/test/log') {
    ctx.body = log;
  } else if (ctx.path === '/test/refuse-tokens' && ctx.method === 'POST') {
    issued.forEach((token) => refused.add(token));
    ctx.status = 204;
  } else {
    await next();
  }
});

server.on('request', provider.callback());
process.stdin.resume().on('end', () => process.exit());
console.log(issuer);
