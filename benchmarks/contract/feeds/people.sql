SELECT * FROM shop.people
