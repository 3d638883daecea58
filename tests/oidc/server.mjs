// An OpenID provider with a protected API beside it, on a port of the system's choice. Its first line tells the address;
// it ends when its standard input does, so that it never outlives the test that started it.
//
//   POST /reg                  clients register themselves (RFC 7591)
//   GET  /v2/sales             the API; wants an access token with the scope view_sales, and a proof where it is bound to a key
//   POST /test/key             a new key pair: the private half as PEM, the public one as a JWK
//   GET  /test/log             what happened at the token endpoint and at the API
//   POST /test/refuse-tokens   the API refuses every access token issued so far

import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { EmbeddedJWK, calculateJwkThumbprint, createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose';

// The library says that its forms, keys and store are made for development. So are these tests.
console.warn = console.info = () => {};
const { default: Provider, errors } = await import('oidc-provider');

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;
const lifetime = Number(process.env.ACCESS_TOKEN_SECONDS);

const log = { grants: [], api: [], pushed: 0, nonces: 0 };
const issued = new Set();
const refused = new Set();

const provider = new Provider(issuer, {
  features: {
    registration: { enabled: true },
    revocation: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    resourceIndicators: {
      enabled: true,
      // Tokens for a resource are JWTs (RFC 9068), others are not.
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'view_sales',
        audience: resource,
        accessTokenTTL: lifetime,
        accessTokenFormat: 'jwt',
      }),
      useGrantedResource: () => true,
    },
  },
  scopes: ['openid', 'offline_access', 'view_sales'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: lifetime, ClientCredentials: lifetime },
});

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

// The library leaves these two to who runs it.
const issue = async (ctx, more) => {
  const token = new provider.ClientCredentials({ client: ctx.oidc.client, scope: ctx.oidc.params.scope });
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration, ...more };
};
provider.registerGrantType(JWT_BEARER, async (ctx) => {
  const { client, params } = ctx.oidc;
  const keys = createLocalJWKSet({ keys: client.jwks.keys });
  await jwtVerify(params.assertion, keys, { issuer: client.clientId, subject: 'person', audience: issuer }).catch(() => {
    throw new errors.InvalidGrant('the assertion is refused');
  });
  await issue(ctx);
}, ['assertion', 'scope']);
provider.registerGrantType(TOKEN_EXCHANGE, async (ctx) => {
  const { params } = ctx.oidc;
  if (params.subject_token !== 'a-projected-token') throw new errors.InvalidGrant('the subject token is refused');
  if (String(params.audience) !== 'openfaas-fn:one,openfaas-fn:two') throw new errors.InvalidRequest('the audience');
  await issue(ctx, { issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' });
}, ['subject_token', 'subject_token_type', 'audience', 'scope'], ['audience']);

const anHourAgo = () => new Date(Date.now() - 3_600_000).toISOString();

provider.on('access_token.saved', (token) => issued.add(token.jti));
provider.on('client_credentials.saved', (token) => issued.add(token.jti));
provider.on('pushed_authorization_request.success', () => (log.pushed += 1));
provider.on('grant.success', (ctx) => log.grants.push({ grant: ctx.oidc.params.grant_type, outcome: 'issued' }));
provider.on('grant.error', (ctx, error) => {
  if (error.message === 'use_dpop_nonce') log.nonces += 1;
  log.grants.push({ grant: ctx.oidc.params?.grant_type, outcome: error.message });
});
provider.on('server_error', (ctx, error) => console.error(error));

const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

// What the API makes of a token: its scope, and the key that it is bound to.
async function read(value) {
  const found = (await provider.AccessToken.find(value)) ?? (await provider.ClientCredentials.find(value));
  if (found) return { ok: found.isValid && !refused.has(found.jti), scopes: found.scopes, jkt: found.jkt };
  const { payload } = await jwtVerify(value, keys, { issuer, audience: 'urn:sales' });
  return { ok: true, scopes: new Set(payload.scope?.split(' ')), jkt: payload.cnf?.jkt };
}

const apiNonce = randomBytes(8).toString('hex');

// RFC 9449 §7: whether the proof is for this very request, by who has the key. The API has a nonce of its own.
async function proven(ctx, value, jkt) {
  const { payload, protectedHeader } = await jwtVerify(ctx.get('dpop'), EmbeddedJWK, { typ: 'dpop+jwt' });
  if (payload.nonce !== apiNonce) {
    ctx.set('WWW-Authenticate', 'DPoP error="use_dpop_nonce"');
    ctx.set('DPoP-Nonce', apiNonce);
    log.nonces += 1;
    return false;
  }
  return payload.htm === ctx.method && payload.htu === `${issuer}${ctx.path}` &&
    payload.ath === createHash('sha256').update(value).digest('base64url') &&
    (await calculateJwkThumbprint(protectedHeader.jwk)) === jkt;
}

async function allowed(ctx) {
  const [, scheme, value] = /^(Bearer|DPoP) (.+)$/.exec(ctx.get('authorization')) ?? [];
  const token = value && (await read(value));
  if (!token?.ok || !token.scopes.has('view_sales')) return false;
  return token.jkt ? scheme === 'DPoP' && (await proven(ctx, value, token.jkt)) : scheme === 'Bearer';
}

provider.use(async (ctx, next) => {
  if (ctx.path === '/v2/sales') {
    const ok = await allowed(ctx).catch(() => false);
    ctx.status = ok ? 200 : 401;
    ctx.body = ok
      ? { success: true, sales: [{ created_at: anHourAgo(), price: 2499, currency_symbol: '$' }] }
      : { success: false };
    log.api.push(ctx.status);
  } else if (ctx.path === '/test/key' && ctx.method === 'POST') {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    ctx.body = { pem: privateKey.export({ type: 'pkcs8', format: 'pem' }), jwk: publicKey.export({ format: 'jwk' }) };
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
