"""The embedded default: a demo shop, a Redshift stand-in and a Customer.io stand-in, all on 127.0.0.1.

Product code never imports this package; the command line does.
"""
