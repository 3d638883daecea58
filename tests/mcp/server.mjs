// An MCP server whose tools are behind the SDK's own authorization server: registration (RFC 7591), metadata (RFC 8414), the
// document of the protected resource (RFC 9728), PKCE. What the SDK leaves to who runs it is the store of codes and tokens: here a
// refresh token is good once. On a port of the system's choice; its first line tells the address of the server's tools; it ends
// when its standard input does.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { once } from 'node:events';
import express from 'express';
import { InvalidGrantError, InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { getOAuthProtectedResourceMetadataUrl, mcpAuthRouter } from '@modelcontextprotocol/sdk/server/auth/router.js';

const app = express();
const server = createServer(app).listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = new URL(`http://127.0.0.1:${server.address().port}/`);
const resource = new URL('/mcp', issuer);

const clients = new Map();
const codes = new Map();
const access = new Map();
const refresh = new Map();

const issue = (client, scopes, audience) => {
  const [token, next] = [randomUUID(), randomUUID()];
  access.set(token, { token, clientId: client.client_id, scopes, resource: audience, expiresAt: Date.now() / 1000 + 60 });
  refresh.set(next, { clientId: client.client_id, scopes, audience });
  return { access_token: token, token_type: 'bearer', expires_in: 60, refresh_token: next, scope: scopes.join(' ') };
};

const provider = {
  clientsStore: {
    getClient: (id) => clients.get(id),
    registerClient: (client) => (clients.set(client.client_id, client), client),
  },
  // The person has signed in before, and allows it.
  authorize: async (client, params, res) => {
    const code = randomUUID();
    codes.set(code, { client, params });
    const back = new URL(params.redirectUri);
    back.searchParams.set('code', code);
    if (params.state !== undefined) back.searchParams.set('state', params.state);
    res.redirect(back.href);
  },
  challengeForAuthorizationCode: async (client, code) => {
    if (codes.get(code)?.client.client_id !== client.client_id) throw new InvalidGrantError('the code is not known');
    return codes.get(code).params.codeChallenge;
  },
  exchangeAuthorizationCode: async (client, code, _verifier, redirectUri, audience) => {
    const { params } = codes.get(code);
    codes.delete(code);
    if (redirectUri !== params.redirectUri) throw new InvalidGrantError('the redirect URI is another one');
    if (audience?.href !== params.resource?.href) throw new InvalidGrantError('the resource is another one');
    return issue(client, params.scopes ?? [], audience);
  },
  exchangeRefreshToken: async (client, token, _scopes, audience) => {
    const known = refresh.get(token);
    refresh.delete(token);
    if (known?.clientId !== client.client_id) throw new InvalidGrantError('the refresh token is not known');
    if (audience?.href !== known.audience?.href) throw new InvalidGrantError('the resource is another one');
    return issue(client, known.scopes, known.audience);
  },
  verifyAccessToken: async (token) => {
    if (!access.has(token)) throw new InvalidTokenError('the token is not known');
    return access.get(token);
  },
};

app.use(mcpAuthRouter({
  provider,
  issuerUrl: issuer,
  resourceServerUrl: resource,
  resourceName: 'Tools',
  scopesSupported: ['mcp:tools'],
}));
app.all('/mcp', requireBearerAuth({
  verifier: provider,
  requiredScopes: ['mcp:tools'],
  resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
  expectedResource: resource,
}), (req, res) => res.json({ jsonrpc: '2.0', id: 1, result: { client: req.auth.clientId } }));

console.log(resource.href);
process.stdin.on('end', () => process.exit()).resume();
