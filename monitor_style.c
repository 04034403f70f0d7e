/*
 * monitor_style: what the pages for people look like: one stylesheet and one icon, served as files
 * of this origin, since the pages' policy allows nothing else.
 *
 * Colours are custom properties, in a light and a dark set; each text colour has a contrast of at
 * least 4.5:1 on each ground it stands on (WCAG 2.1 1.4.3; tests/e2e/test_monitor.py computes it).
 * Under 44rem tables become lists of cards. Nothing is wider than the screen: long words break.
 */
#include "monitor_page.h"

const char page_style[] =
    /* Colours: ground, cards, ink, softer ink, lines, accent and what stands on it, tint; and for
     * good, warn, bad each ink and ground. */
    ":root{color-scheme:light dark;--g:#f4f6f8;--c:#fff;--i:#18212d;--s:#526071;--l:#d9e0e8;"
    "--a:#0a5c94;--o:#fff;--t:#e6f0f7;--gi:#176c37;--gg:#e2f3e7;--wi:#7d4e00;--wg:#fdf0d5;"
    "--bi:#a8201a;--bg:#fce8e6}"
    "@media(prefers-color-scheme:dark){:root{--g:#10151b;--c:#181f28;--i:#e4e9ef;--s:#a3b0bf;"
    "--l:#2b3642;--a:#74bdf0;--o:#0d1a25;--t:#1c2c3a;--gi:#6fd08c;--gg:#16301f;--wi:#eab955;"
    "--wg:#352a12;--bi:#ff9a90;--bg:#3c1b19}}"
    "*{box-sizing:border-box;border:0 solid var(--l)}"
    "body{margin:0;background:var(--g);color:var(--i);font:1rem/1.5 system-ui,sans-serif;"
    "overflow-wrap:anywhere}"
    "header,main,footer{padding:.8rem max(1rem,50vw - 36rem)}main{min-height:70vh}"
    "a{color:var(--a)}:focus-visible{outline:3px solid var(--a)}"
    ".skip{position:absolute;left:-99rem}.skip:focus{left:1rem;background:var(--c)}"
    "header,nav,form{display:flex;flex-wrap:wrap;gap:.5rem}"
    "header{background:var(--c);border-bottom-width:1px;align-items:baseline;gap:.2rem 2rem}"
    "header a{color:var(--s);text-decoration:none}header b{color:var(--i);font-size:1.3rem}"
    "nav{gap:0;margin:0 -.6rem}nav a{padding:.25rem .6rem;border-radius:.4rem}"
    "nav a:hover,nav [aria-current]{color:var(--a);background:var(--t)}"
    "h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0 1rem}"
    "h2{font-size:1.15rem;margin:2rem 0 .6rem}"
    "small,figcaption span,label,caption,th,dt,.tag,.axis{font-size:.875rem}"
    "small,figcaption span,label,caption,th,dt,.soft,.sub,.axis,footer{color:var(--s)}"
    ".sub{margin:-.7rem 0 1.2rem}footer{border-top-width:1px}"
    ".tiles,.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(14.5rem,1fr));"
    "gap:.75rem;margin:0}"
    ".charts{grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr))}"
    ".tiles>div,figure,.facts,table,pre,.note{background:var(--c);border-width:1px;"
    "border-radius:.6rem}"
    ".tiles>div,figure,pre,.facts{padding:.75rem 1rem;margin:0}"
    "dd{margin:0}.tiles dd{font-size:1.6rem;line-height:1.3;font-weight:600}"
    ".tiles small{display:block;font-weight:400}"
    "figcaption,.axis{display:flex;justify-content:space-between;font-weight:600}"
    "figcaption span,.axis{font-weight:400}"
    ".chart{display:block;width:100%;height:4.5rem;margin:.5rem 0 .25rem;color:var(--a);"
    "border-bottom-width:1px;fill:currentColor}"
    ".area{opacity:.2}.line{fill:none;stroke:currentColor;stroke-width:2;"
    "vector-effect:non-scaling-stroke}"
    ".note{padding:.6rem 1rem;border-color:currentColor;margin:0 0 1rem}"
    "ul.note{padding-left:2rem}.note a{color:inherit}"
    ".tag{padding:0 .5rem;border-radius:1rem}.tag,.nb,time,.id,th{white-space:nowrap}"
    ".good{color:var(--gi);background:var(--gg)}.warn{color:var(--wi);background:var(--wg)}"
    ".bad,.alert{color:var(--bi)}.bad:is(.note,.tag){background:var(--bg)}"
    "table{width:100%;border-spacing:0;font-size:.9375rem;margin:0 0 .75rem}"
    "caption,th,td{text-align:left}caption{padding:0 0 .4rem}"
    "th,td{vertical-align:top;padding:.5rem .75rem;border-bottom-width:1px}"
    "tr:last-child td{border:0}tbody tr:hover{background:var(--t)}"
    ".id,pre,code{font-family:ui-monospace,monospace;font-size:.9em}"
    "pre{overflow:auto;white-space:pre-wrap;max-height:32rem}"
    ".facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.35rem 1.25rem}"
    "form{align-items:end;margin:1rem 0}td form{margin:0}"
    "input,button,.button{font:inherit;color:inherit;background:var(--c);"
    "border:1px solid var(--s);border-radius:.4rem;padding:.35rem .9rem}"
    "input{display:block;width:20rem;max-width:100%}"
    "button,.button{font-weight:600;color:var(--a);border-color:currentColor;cursor:pointer;"
    "text-decoration:none}"
    ".main{background:var(--a);color:var(--o)}.danger{color:var(--bi)}"
    "button:hover,.button:hover{background:var(--t);color:var(--i)}"
    "@media(max-width:44rem){table,caption,tbody,tr,td,.facts{display:block}"
    "thead{position:absolute;left:-99rem}table{background:none;border:0}"
    "tbody tr{background:var(--c);border-width:1px;border-radius:.6rem;"
    "padding:.4rem .9rem;margin:0 0 .6rem}"
    "td{display:grid;grid-template-columns:6rem minmax(0,1fr);gap:.5rem;padding:.2rem 0;border:0}"
    "td:empty{display:none}td::before{content:attr(data-label);color:var(--s);font-size:.875rem}"
    ".tiles{grid-template-columns:repeat(2,minmax(0,1fr))}"
    ".facts dd{margin-bottom:.5rem}time,.nb{white-space:normal}}";

const char page_icon[] =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\"><rect width=\"32\" "
    "height=\"32\" rx=\"7\" fill=\"#0a5c94\"/><path d=\"M6 10h20v13H6zm0 0 10 8 10-8\" "
    "fill=\"none\" stroke=\"#fff\" stroke-width=\"2.4\" stroke-linejoin=\"round\"/></svg>";
