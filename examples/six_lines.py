from retrieveall import RetrieveAll

model = RetrieveAll.from_pretrained("base")
for prediction in model.predict(["Angela Merkel wurde in Hamburg geboren.", "徳川家康は江戸に幕府を開いた。"]):
    for entity in prediction.entities:
        print(entity.label, entity.start, entity.end, f"{entity.score:.2f}", entity.text, prediction.route.language)
