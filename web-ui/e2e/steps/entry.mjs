// Coming in: claim the box, sign out, sign in.

const NAME = 'mei';
export const PASSWORD = 'a quiet pond at noon';

export const entrySteps = ({ url, claimCode }, { page, screenshot }, { composer }) => [
  ['a wrong claim code is refused in words', async () => {
    await page.goto(url);
    await page.getByLabel('Claim code').fill('AAAA-AAAA');
    await page.getByLabel('Name').fill(NAME);
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await page.getByRole('button', { name: 'Claim this box' }).click();
    await page.getByRole('alert').waitFor();
    await screenshot('claim');
  }],
  ['the language switch works before anyone signed in', async () => {
    await page.getByRole('button', { name: /简体中文/ }).click();
    await page.getByRole('heading', { name: '设置这台设备' }).waitFor();
    await screenshot('claim-zh');
    await page.getByRole('button', { name: /English/ }).click();
  }],
  ['the right code claims the box', async () => {
    await page.getByLabel('Claim code').fill('');
    await page.getByLabel('Claim code').pressSequentially(claimCode.replace('-', '').toLowerCase());
    await page.getByRole('button', { name: 'Claim this box' }).click();
    await composer.waitFor();
    await screenshot('empty-light');
  }],
  ['sign out, a wrong password, sign in', async () => {
    await page.goto(`${url}/settings/account`);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('button', { name: 'Sign in' }).waitFor();
    await page.getByLabel('Name').fill(NAME);
    await page.getByLabel('Password', { exact: true }).fill('not the password');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').waitFor();
    await screenshot('sign-in');
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('link', { name: 'Back to chats' }).click();
    await composer.waitFor();
  }],
];
