// Walks a person through every page of the function in a real browser. Reads the scene as JSON from its standard input:
//
//   gallery       a folder of pages with sample data
//   screenshots   the folder for what was seen
//   sandbox, oidc the function at each of two providers: its `url`, the `operator`'s password, the `provider`'s address
//
// Closes with a count, and fails where something does not hold.

import { accessSync, constants, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { Inspector } from './inspector.mjs';

const scene = JSON.parse(readFileSync(0, 'utf8'));
mkdirSync(scene.screenshots, { recursive: true });
const inspector = new Inspector(scene.screenshots);
const browser = await chromium.launch({ executablePath: program() });

function program() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const places = process.env.PATH.split(path.delimiter).map((folder) => path.join(folder, 'chromium'));
  return places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A window of somebody who knows the operator's password, and is signed in. */
async function open({ url, operator }) {
  const { origin } = new URL(url);
  const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'] });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  inspector.listen(page, origin);
  if (operator) {
    await page.goto(`${url}/login`);
    await inspector.look(page, 'login');
    await page.locator('input[name=password]').fill(operator);
    await press(page, 'Sign in');
    await page.waitForURL(`${url}/status`);
  }
  return page;
}

const heading = (page) => page.getByRole('heading', { level: 1 }).innerText();
const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const follow = (page, name) => page.getByRole('link', { name, exact: true }).click();

/** Is at an address, under a heading, and the page bears a look. */
async function arrives(page, name, address, title) {
  await page.waitForURL((url) => `${url.origin}${url.pathname}` === address);
  const found = await heading(page);
  inspector.check(`${name} is headed “${title}”`, found === title, found);
  await inspector.look(page, name);
}

async function shows(page, what, words) {
  const text = await page.locator('main').innerText();
  inspector.check(what, text.includes(words), text);
}

async function gallery(folder) {
  const page = await open({ url: 'http://127.0.0.1' });
  for (const file of readdirSync(folder)) {
    await page.goto(pathToFileURL(path.join(folder, file)).href);
    await inspector.look(page, `sample-${path.basename(file, '.html')}`);
  }
  await page.context().close();
}

async function atTheSandbox({ url, operator, provider }) {
  const page = await open({ url, operator });
  const faults = async (switches) => {
    const answer = await fetch(`${provider}/admin/faults`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(switches),
    });
    if (!answer.ok) throw new Error(await answer.text());
  };
  const consent = `${provider}/oauth/authorize`;

  await page.goto(url);
  await arrives(page, 'enable', `${url}/enable`, 'Connect Gumroad');
  await page.locator('code.copy').click();
  const selected = await page.evaluate(() => getSelection().toString().trim());
  inspector.check('one click selects the redirect URI', selected === `${url}/oauth2/callback`, selected);
  await press(page, 'Copy');
  await page.getByRole('button', { name: 'Copied' }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  inspector.check('a button copies it', copied === `${url}/oauth2/callback`, copied);
  await page.getByRole('button').first().focus();
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Tab');
  const outline = await page.evaluate(() => {
    const { tagName } = document.activeElement;
    return [tagName, getComputedStyle(document.activeElement).outlineStyle];
  });
  inspector.check('what has the focus shows it', outline.join() === 'BUTTON,solid', outline.join());

  await page.keyboard.press('Enter');
  await arrives(page, 'consent', consent, 'Allow access?');
  await press(page, 'Deny');
  await arrives(page, 'denied', `${url}/oauth2/callback`, 'You did not allow it');
  await follow(page, 'Begin again');
  await press(page, 'Continue to Gumroad');
  await page.waitForURL(`${consent}?**`);
  await press(page, 'Allow');
  await arrives(page, 'done', `${url}/done`, 'Connected to Gumroad');

  const stranger = await open({ url });
  await stranger.goto(`${url}/done`);
  await arrives(stranger, 'start', `${url}/done`, 'Gumroad Connected');
  await stranger.context().close();

  await follow(page, 'Run the job');
  await arrives(page, 'result', `${url}/`, 'Sales of the last seven days');
  await page.goto(`${url}/status`);
  await arrives(page, 'status', `${url}/status`, 'Status of Gumroad');
  await shows(page, 'the status says that it is connected', 'Connected');
  await press(page, 'Renew now');
  await shows(page, 'the status says what was done', 'The token was renewed.');
  await page.reload();
  const text = await page.locator('main').innerText();
  inspector.check('and says it once', !text.includes('The token was renewed.'), text);
  await press(page, 'Run now');
  inspector.check('a button runs the job', (await heading(page)) === 'Sales of the last seven days', page.url());

  await faults({ status: { status: 503 } });
  await page.goto(`${url}/status`);
  await press(page, 'Renew now');
  await arrives(page, 'not-renewed', `${url}/refresh`, 'The token was not renewed');
  await follow(page, 'To the status');
  await arrives(page, 'status-degraded', `${url}/status`, 'Status of Gumroad');
  await shows(page, 'trouble is named', 'Connected, with trouble');
  await faults({ status: { status: 400, error: 'invalid_grant' } });
  await press(page, 'Renew now');
  await follow(page, 'To the status');
  await arrives(page, 'status-needs-authorisation', `${url}/status`, 'Status of Gumroad');
  await shows(page, 'and so is that a person must come', 'Must be authorised again');
  // The access token that is left still runs the job, so that the function's own address does not lead here yet.
  await page.goto(`${url}/enable`);
  await arrives(page, 'enable-again', `${url}/enable`, 'Connect Gumroad');

  await faults({ status: null, omit_refresh_token: true });
  await page.goto(`${url}/status`);
  await press(page, 'Authorise again');
  await page.waitForURL(`${consent}?**`);
  await press(page, 'Allow');
  await arrives(page, 'done-without-refresh-token', `${url}/done`, 'Connected to Gumroad');
  await shows(page, 'a missing refresh token is said loudly', 'There is no refresh token.');
  await follow(page, 'Status');
  await shows(page, 'and is said as long as it is missing', 'There is no refresh token.');
  await faults({ omit_refresh_token: null });
  await press(page, 'Authorise again');
  await page.waitForURL(`${consent}?**`);
  await press(page, 'Allow');
  await page.waitForURL(`${url}/done`);

  await revokes(page, url, 'Gumroad', 'sandbox');
  await page.context().close();
}

async function revokes(page, url, provider, name) {
  await page.goto(`${url}/status`);
  await page.getByText('Revoke this account').click();
  await press(page, 'Revoke');
  await arrives(page, `${name}-status-revoked`, `${url}/status`, `Status of ${provider}`);
  await shows(page, 'both halves of a revocation are told', 'has revoked the tokens. Here they are deleted.');
  await shows(page, 'and nobody is connected any more', 'Not connected');
}

async function atAnOpenIdProvider({ url, operator, provider }) {
  const page = await open({ url, operator });
  await page.goto(url);
  await arrives(page, 'oidc-enable', `${url}/enable`, 'Connect custom');
  await press(page, 'Continue to custom');
  await page.waitForURL(`${provider}/interaction/**`);
  await page.locator('input[name=login]').fill('person');
  await page.locator('input[name=password]').fill('word');
  await page.locator('button[type=submit]').click();
  await page.waitForURL(`${provider}/interaction/**`);
  await page.locator('button[type=submit]').click();
  await arrives(page, 'oidc-done', `${url}/done`, 'Connected to custom');
  await follow(page, 'Run the job');
  inspector.check('the job runs', (await heading(page)) === 'Sales of the last seven days', page.url());
  await page.goto(`${url}/status`);
  await arrives(page, 'oidc-status', `${url}/status`, 'Status of custom');
  await revokes(page, url, 'custom', 'oidc');
  await page.context().close();
}

console.log();
for (const [name, walk] of Object.entries({
  gallery: () => gallery(scene.gallery),
  sandbox: () => atTheSandbox(scene.sandbox),
  oidc: () => atAnOpenIdProvider(scene.oidc),
})) {
  await walk().catch((error) => inspector.check(`the walk “${name}” comes to its end`, false, error.stack));
}
await browser.close();
process.exitCode = inspector.finish();
